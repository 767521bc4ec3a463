// A hook over HTTP, with nothing but Go's standard library.
//
//	HOOK_SECRET=whsec_… HOOK_PLUGIN_ID=com.example.sample go run . 127.0.0.1:8081
//
// HOOK_SECRET may have several keys, separated by commas: while one takes over from another, both are good.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	window     = 300 * time.Second // how old a request may be, or how early
	remembered = 600 * time.Second // how long an answer is kept, in case the same request comes again
	longest    = 4 << 20           // octets of a request
)

// request is what the hook reads of a request. Parts that may not be seen are absent.
type request struct {
	InvocationID string `json:"invocation_id"`
	Plugin       struct {
		ID string `json:"id"`
	} `json:"plugin"`
	Message struct {
		Headers []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"headers"`
		Attachments []struct {
			Filename string `json:"filename"`
		} `json:"attachments"`
	} `json:"message"`
}

type smtpAnswer struct {
	Code     int    `json:"code"`
	Enhanced string `json:"enhanced"`
	Text     string `json:"text"`
}

type action struct {
	Op   string   `json:"op"`
	Tags []string `json:"tags"`
}

type response struct {
	Verdict string      `json:"verdict"`
	SMTP    *smtpAnswer `json:"smtp,omitempty"`
	Reason  string      `json:"reason,omitempty"`
	Actions []action    `json:"actions,omitempty"`
}

// refused is a request that gets a status instead of an answer.
type refused struct {
	status int
	why    string
}

func (r refused) Error() string { return r.why }

func readKeys(text string) ([][]byte, error) {
	var keys [][]byte
	for _, part := range strings.Split(text, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(part), "whsec_"))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// sign is the signature of these parts: HMAC-SHA256 over what stands between dots.
func sign(key []byte, parts ...string) string {
	mac := hmac.New(sha256.New, key)
	io.WriteString(mac, strings.Join(parts, "."))
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// verify finds the key that signed the request. Nothing of the body is believed before.
func verify(keys [][]byte, header http.Header, body []byte, now time.Time) ([]byte, error) {
	id, timestamp := header.Get("X-MaiRust-Request-Id"), header.Get("X-MaiRust-Timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if age := now.Unix() - seconds; err != nil || age > int64(window.Seconds()) || age < -int64(window.Seconds()) {
		return nil, refused{http.StatusUnauthorized, "the request is too old or too early"}
	}
	for _, key := range keys {
		wanted, isBy := []byte(sign(key, id, timestamp, string(body))), false
		for _, signature := range strings.Split(header.Get("X-MaiRust-Signature"), ", ") {
			isBy = hmac.Equal(wanted, []byte(signature)) || isBy
		}
		if isBy {
			return key, nil
		}
	}
	return nil, refused{http.StatusUnauthorized, "the signature is wrong"}
}

// decide says what is to become of the message.
func decide(r request) response {
	isInvoice := false
	for _, field := range r.Message.Headers {
		switch strings.ToLower(field.Name) {
		case "x-test-reject":
			smtp := smtpAnswer{550, "5.7.1", "refused by the sample hook"}
			return response{Verdict: "reject", SMTP: &smtp, Reason: "X-Test-Reject"}
		case "subject":
			isInvoice = isInvoice || strings.Contains(strings.ToLower(field.Value), "invoice")
		}
	}
	for _, attachment := range r.Message.Attachments {
		if strings.HasSuffix(strings.ToLower(attachment.Filename), ".exe") {
			return response{Verdict: "quarantine", Reason: "a program is attached"}
		}
	}
	if isInvoice {
		return response{Verdict: "allow", Actions: []action{{"tag.add", []string{"invoice"}}}}
	}
	return response{Verdict: "allow"}
}

type known struct {
	at     time.Time
	answer response
}

type hook struct {
	keys     [][]byte
	pluginID string
	mutex    sync.Mutex
	answers  map[string]known
}

func (h *hook) answer(body []byte) (any, error) {
	var asked request
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, refused{http.StatusBadRequest, "not a request of the hook protocol"}
	}
	if asked.Plugin.ID != h.pluginID {
		return nil, refused{http.StatusForbidden, "this is another hook"}
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	for id, old := range h.answers {
		if time.Since(old.at) > remembered {
			delete(h.answers, id)
		}
	}
	if _, isKnown := h.answers[asked.InvocationID]; !isKnown {
		h.answers[asked.InvocationID] = known{time.Now(), decide(asked)}
	}
	return h.answers[asked.InvocationID].answer, nil
}

// serve answers what is signed, and signs the answer.
func (h *hook) serve(method string, make func([]byte) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longest))
		var key []byte
		var answer any
		switch {
		case err != nil:
			err = refused{http.StatusRequestEntityTooLarge, "too long"}
		case r.Method != method:
			err = refused{http.StatusMethodNotAllowed, "another method"}
		default:
			if key, err = verify(h.keys, r.Header, body, time.Now()); err == nil {
				answer, err = make(body)
			}
		}
		var octets []byte
		if err == nil {
			octets, err = json.Marshal(answer)
		}
		if err != nil {
			status := http.StatusInternalServerError
			if why := (refused{}); errors.As(err, &why) {
				status = why.status
			}
			http.Error(w, err.Error(), status)
			return
		}
		id, timestamp := r.Header.Get("X-MaiRust-Request-Id"), r.Header.Get("X-MaiRust-Timestamp")
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-MaiRust-Response-Signature", sign(key, "resp", id, timestamp, string(octets)))
		w.Write(octets)
	}
}

func main() {
	address := "127.0.0.1:8081"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	keys, err := readKeys(os.Getenv("HOOK_SECRET"))
	if err != nil {
		log.Fatal("HOOK_SECRET: ", err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	h := &hook{keys: keys, pluginID: os.Getenv("HOOK_PLUGIN_ID"), answers: map[string]known{}}
	http.HandleFunc("/hook", h.serve(http.MethodPost, h.answer))
	http.HandleFunc("/health", h.serve(http.MethodGet, func([]byte) (any, error) {
		return map[string]string{"status": "ok", "details": "ready"}, nil
	}))
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}
