//! The section `spam`: how it is written, and what its rules come to.

use std::time::Duration;

use mairust_core::{ByteSize, ScanAction, SenderLists, SenderPattern};
use mairust_hooks::scan::rspamd::{RspamdEndpoint, RspamdSettings};
use mairust_hooks::scan::{
    MessagePart, Rule, RuleError, RuleSettings, RuleTest, TextPattern, Thresholds, default_rules,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::model::{OnScanFailure, SpamEngine, SpamSettings};
use super::secret::SecretRef;
use super::text::{DurationText, EndpointText, ScoreNumber, SecretText, SenderText, SizeText, Text, ThresholdNumber};

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawSpam {
    /// Who looks at mail from other servers.
    pub(super) engine: SpamEngine,
    /// The scores of the built-in engine from which on something is done; the strictest that is
    /// reached counts. `never` switches one off.
    pub(super) thresholds: RawThresholds,
    /// Whether the built-in engine has the rules that come with it: the test string for spam
    /// filters, attachments that run when they are opened, missing header fields, shouting subjects.
    pub(super) default_rules: RawDefaultRules,
    /// Rules of the built-in engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rules: Option<Vec<RawRule>>,
    /// Senders whose mail is taken whatever its score: an address, a domain, `*.domain` for what is
    /// below it, an IP address or a network. Addresses and domains are compared with MAIL FROM and
    /// From, which anybody can forge: prefer networks. Malformed mail is refused all the same.
    pub(super) allow: Vec<SenderText>,
    /// Senders whose mail is kept out, written like those of `allow`, which wins.
    pub(super) block: Vec<SenderText>,
    /// What becomes of mail of a blocked sender.
    pub(super) blocked: RawSpamAction,
    /// The rspamd server, for the engine of that name.
    pub(super) rspamd: RawRspamd,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawThresholds {
    /// From this score on, the field X-Spam-Status says `Yes`.
    pub(super) tag: ThresholdNumber,
    /// From this score on, the message goes into the folder Junk.
    pub(super) junk: ThresholdNumber,
    /// From this score on, the message goes into the folder Quarantine.
    pub(super) quarantine: ThresholdNumber,
    /// From this score on, the message is refused.
    pub(super) reject: ThresholdNumber,
}

/// Whether the rules that come with the built-in engine are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawDefaultRules {
    /// No: only those of `rules`.
    Drop,
    /// Yes, with those of `rules`.
    Keep,
}

/// A rule of the built-in engine: a part of the message and one thing to look for in it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRule {
    /// Its name in reports: 1 to 64 letters, digits, `_`, `-` or `.`.
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) name: String,
    /// What it adds to the score of a message; may be negative.
    pub(super) score: ScoreNumber,
    /// Where it looks.
    pub(super) part: RawRulePart,
    /// The name of the header field, for `part: header`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) header: Option<String>,
    /// It hits when the text holds this, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) contains: Option<String>,
    /// It hits when the whole text is like this, where `*` is any number of characters and `?` is
    /// one, in whatever case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) like: Option<String>,
    /// It hits when the text fits this regular expression, in whatever case. The syntax is that of
    /// the Rust crate regex: no look-around, no back-references.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) regex: Option<String>,
    /// It hits when the header field is absent, or when it is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "RawPresence")]
    pub(super) is: Option<RawPresence>,
    /// It hits when the message is larger than this, for `part: size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) over: Option<SizeText>,
    /// It hits when the message is smaller than this, for `part: size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) under: Option<SizeText>,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "mairust-text"))]
    pub(super) description: Option<String>,
}

/// Where a rule looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawRulePart {
    /// The names of attachments.
    Attachment,
    /// All text parts, decoded, in the first 512 KiB of the message.
    Body,
    /// The addresses in From.
    From,
    /// A header field, decoded.
    Header,
    /// The addresses of RCPT TO.
    Recipient,
    /// The address of MAIL FROM.
    Sender,
    /// How large the message is.
    Size,
}

/// Whether a header field is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawPresence {
    /// It is not.
    Absent,
    /// It is.
    Present,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawSpamAction {
    /// It is taken; X-Spam-Status says `Yes`.
    Tag,
    /// It goes into the folder Junk.
    Junk,
    /// It goes into the folder Quarantine.
    Quarantine,
    /// It is refused.
    Reject,
}

#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRspamd {
    /// Where its normal worker listens: `http://host:port` or `unix:/path`. There is no TLS: let it
    /// stand on this machine or in a private network.
    pub(super) url: EndpointText,
    /// The password, if it wants one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<SecretText>,
    /// How long it may look at one message, from 100ms to 30s. A sender waits meanwhile. The default
    /// is enough for its own lookups in DNS.
    pub(super) timeout: DurationText,
    /// What is done when it has no answer. After three failures in a row it is left alone for 15s,
    /// and longer if it stays away.
    pub(super) on_failure: OnScanFailure,
    /// What its actions `add header` and `rewrite subject` mean. The subject itself is never
    /// changed: that would break signatures.
    pub(super) marked: RawSpamAction,
    /// What its action `reject` means.
    pub(super) rejected: RawSpamAction,
}

/// What is wrong with a rule: the key, the problem, the advice.
pub(super) struct RuleFault {
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) advice: &'static str,
}

impl RawSpam {
    /// What the section means. Rules that are wrong are left out; they have been reported.
    pub(super) fn settle(self, hostname: &str) -> SpamSettings {
        let patterns = |texts: Vec<SenderText>| texts.into_iter().map(|text| text.0).collect::<Vec<SenderPattern>>();
        let mut rules = RuleSettings::default();
        rules.thresholds = self.thresholds.settle();
        rules.rules = match self.default_rules {
            RawDefaultRules::Drop => Vec::new(),
            RawDefaultRules::Keep => default_rules(),
        };
        rules.rules.extend(self.rules.unwrap_or_default().iter().filter_map(|raw| raw.read().ok()));
        let mut lists = SenderLists::default();
        lists.allow = patterns(self.allow);
        lists.block = patterns(self.block);
        let mut rspamd = RspamdSettings::new(self.rspamd.url.0);
        rspamd.timeout = self.rspamd.timeout.0;
        rspamd.marked = self.rspamd.marked.into();
        rspamd.rejected = self.rspamd.rejected.into();
        rspamd.hostname = Some(hostname.to_owned());
        SpamSettings {
            engine: self.engine,
            rules,
            lists,
            blocked: self.blocked.into(),
            rspamd,
            on_failure: self.rspamd.on_failure,
        }
    }
}

impl RawThresholds {
    pub(super) fn settle(&self) -> Thresholds {
        let mut thresholds = Thresholds::default();
        thresholds.tag = self.tag.0;
        thresholds.junk = self.junk.0;
        thresholds.quarantine = self.quarantine.0;
        thresholds.reject = self.reject.0;
        thresholds
    }

    /// Neighbours in the wrong order: the key of the higher one, and the key that it must be below.
    pub(super) fn disorder(&self) -> Option<(&'static str, &'static str)> {
        let all = [("tag", self.tag), ("junk", self.junk), ("quarantine", self.quarantine), ("reject", self.reject)];
        let on: Vec<_> = all.into_iter().filter_map(|(key, threshold)| Some((key, threshold.0?))).collect();
        on.windows(2).find(|pair| pair[0].1 > pair[1].1).map(|pair| (pair[0].0, pair[1].0))
    }
}

impl RawRule {
    /// Rules for the example; together they have all keys.
    pub(super) fn examples() -> Vec<Self> {
        let some = |text: &str| Some(text.to_owned());
        let subject = Self { header: some("Subject"), ..Self::new("CASINO", 2.5, RawRulePart::Header) };
        let list_id = Self { header: some("List-Id"), ..Self::new("NEWSLETTER", -1.0, RawRulePart::Header) };
        let disk_image = Self::new("DISK_IMAGE", 6.0, RawRulePart::Attachment);
        vec![
            Self { contains: some("casino"), ..subject },
            Self { is: Some(RawPresence::Present), ..list_id },
            Self { like: some("*.iso"), description: some("a disk image"), ..disk_image },
            Self { regex: some("bc1[a-z0-9]{25,59}"), ..Self::new("BITCOIN", 1.5, RawRulePart::Body) },
            Self { over: Some(Text(ByteSize(20 << 20))), ..Self::new("HUGE", 1.0, RawRulePart::Size) },
            Self { under: Some(Text(ByteSize(256))), ..Self::new("TINY", 1.0, RawRulePart::Size) },
        ]
    }

    /// A rule that looks for nothing yet.
    fn new(name: &str, score: f64, part: RawRulePart) -> Self {
        Self {
            name: name.to_owned(),
            score: ScoreNumber(score),
            part,
            header: None,
            contains: None,
            like: None,
            regex: None,
            is: None,
            over: None,
            under: None,
            description: None,
        }
    }

    /// The rule, checked.
    pub(super) fn read(&self) -> Result<Rule, RuleFault> {
        let (key, test) = self.test()?;
        let rule = Rule::new(&self.name, self.score.0, test).describe(self.description.clone().unwrap_or_default());
        rule.check().map_err(|error| {
            let key = match error {
                RuleError::Header => "header",
                RuleError::Name => "name",
                RuleError::Score => "score",
                _ => key,
            };
            RuleFault { key, message: error.to_string(), advice: "" }
        })?;
        Ok(rule)
    }

    /// The one thing that it looks for, and the key that says it.
    fn test(&self) -> Result<(&'static str, RuleTest), RuleFault> {
        let fault = |key, message: &str, advice| Err(RuleFault { key, message: message.to_owned(), advice });
        let looked_for: Vec<&'static str> = [
            ("contains", self.contains.is_some()),
            ("like", self.like.is_some()),
            ("regex", self.regex.is_some()),
            ("is", self.is.is_some()),
            ("over", self.over.is_some()),
            ("under", self.under.is_some()),
        ]
        .into_iter()
        .filter_map(|(key, given)| given.then_some(key))
        .collect();
        let [key] = looked_for[..] else {
            let key = looked_for.get(1).copied().unwrap_or("part");
            return fault(key, "a rule looks for one thing", "write one of contains, like, regex, is, over, under");
        };
        let header = match (self.part, &self.header) {
            (RawRulePart::Header, None) => {
                return fault("header", "this key is missing", "write the name of the field");
            }
            (RawRulePart::Header, Some(name)) => name.clone(),
            (_, Some(_)) => {
                return fault("header", "this part has no header fields", "write part: header, or remove it");
            }
            (_, None) => String::new(),
        };
        let test = match (self.part, self.is, &self.over, &self.under) {
            (RawRulePart::Size, None, Some(size), _) => RuleTest::LargerThan(size.0),
            (RawRulePart::Size, None, _, Some(size)) => RuleTest::SmallerThan(size.0),
            (RawRulePart::Size, ..) => return fault(key, "a size has no text", "write over or under"),
            (_, _, Some(_), _) | (_, _, _, Some(_)) => {
                return fault(key, "only a size is over or under something", "write part: size");
            }
            (RawRulePart::Header, Some(RawPresence::Absent), ..) => RuleTest::HeaderAbsent(header),
            (RawRulePart::Header, Some(RawPresence::Present), ..) => RuleTest::HeaderPresent(header),
            (_, Some(_), ..) => return fault(key, "only a header field is absent or present", "write part: header"),
            (part, None, None, None) => RuleTest::Text { part: part.named(header), pattern: self.pattern() },
        };
        Ok((key, test))
    }

    fn pattern(&self) -> TextPattern {
        match (&self.contains, &self.like) {
            (Some(text), _) => TextPattern::Contains(text.clone()),
            (_, Some(text)) => TextPattern::Like(text.clone()),
            _ => TextPattern::Regex(self.regex.clone().unwrap_or_default()),
        }
    }
}

impl RawRulePart {
    /// The part that has texts; a size has none and was dealt with before.
    fn named(self, header: String) -> MessagePart {
        match self {
            Self::Attachment => MessagePart::Attachment,
            Self::From => MessagePart::From,
            Self::Header => MessagePart::Header(header),
            Self::Recipient => MessagePart::Recipient,
            Self::Sender => MessagePart::Sender,
            Self::Body | Self::Size => MessagePart::Body,
        }
    }
}

impl From<RawSpamAction> for ScanAction {
    fn from(raw: RawSpamAction) -> Self {
        match raw {
            RawSpamAction::Tag => Self::Tag,
            RawSpamAction::Junk => Self::Junk,
            RawSpamAction::Quarantine => Self::Quarantine,
            RawSpamAction::Reject => Self::Reject,
        }
    }
}

impl Default for RawSpam {
    fn default() -> Self {
        Self {
            engine: SpamEngine::Builtin,
            thresholds: RawThresholds::default(),
            default_rules: RawDefaultRules::Keep,
            rules: None,
            allow: Vec::new(),
            block: Vec::new(),
            blocked: RawSpamAction::Reject,
            rspamd: RawRspamd::default(),
        }
    }
}

impl Default for RawThresholds {
    fn default() -> Self {
        let Thresholds { tag, junk, quarantine, reject, .. } = Thresholds::default();
        Self {
            tag: ThresholdNumber(tag),
            junk: ThresholdNumber(junk),
            quarantine: ThresholdNumber(quarantine),
            reject: ThresholdNumber(reject),
        }
    }
}

impl Default for RawRspamd {
    fn default() -> Self {
        Self {
            url: Text(RspamdEndpoint::Tcp { host: "127.0.0.1".to_owned(), port: 11333 }),
            password: None,
            timeout: Text(Duration::from_secs(10)),
            on_failure: OnScanFailure::Builtin,
            marked: RawSpamAction::Junk,
            rejected: RawSpamAction::Reject,
        }
    }
}

/// The password for the example.
pub(super) fn example_password() -> SecretText {
    Text(SecretRef::File("/etc/mairust/rspamd.password".into()))
}
