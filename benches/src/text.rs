//! Messages as people write them, half of them Japanese: the same ones in every run.

use bytes::Bytes;
use mairust_core::{Content, MessageDsn, MessageId, ReversePath, Timestamp, TlsWish};
use mairust_store::{Acceptance, Direction, Folder, MessageStatus, NewMessage, Placement, User};

/// Writes messages.
#[derive(Debug)]
pub struct Writer {
    random: u64,
    number: u64,
}

const NAMES: [&str; 8] = ["tanaka", "sato", "suzuki", "ito", "miller", "smith", "garcia", "weber"];

const JAPANESE: [&str; 32] = [
    "お世話になっております。",
    "先日の会議の資料をお送りします。",
    "ご確認のほどよろしくお願いいたします。",
    "添付の請求書をご確認ください。",
    "東京本社での打ち合わせについてご連絡いたします。",
    "来週の予定を教えていただけますでしょうか。",
    "見積書の件、承知いたしました。",
    "納品は予定どおり進んでおります。",
    "京都支店の担当者が変更になりました。",
    "システムの保守作業を実施いたします。",
    "ご不明な点がございましたらお知らせください。",
    "契約書の内容を修正しました。",
    "大阪の展示会に参加される方はご返信ください。",
    "先月の売上報告をまとめました。",
    "サーバーの障害は復旧しました。",
    "採用面接の日程を調整しております。",
    "新しい商品のカタログが完成しました。",
    "出張の精算をお願いいたします。",
    "会議室の予約は中止になりました。",
    "お支払い期限は月末となっております。",
    "品質検査の結果に問題はありませんでした。",
    "プロジェクトの進捗をご報告します。",
    "次回の研修は第三水曜日です。",
    "ご注文ありがとうございます。",
    "倉庫の在庫数を確認してください。",
    "電話にてお問い合わせください。",
    "メールアドレスが変わりました。",
    "忘年会の出欠をお知らせください。",
    "特許の出願が完了しました。",
    "横浜工場の見学を希望します。",
    "個人情報の取り扱いにご注意ください。",
    "資料は共有フォルダーにあります。",
];

const ENGLISH: [&str; 24] = [
    "Please find attached the minutes of our last meeting.",
    "The invoice is due at the end of the month.",
    "Let me know if you have any questions.",
    "We have received your payment, thank you.",
    "The delivery is delayed by two days.",
    "Could you review the contract before Friday?",
    "The quarterly report is ready for your comments.",
    "Our office in Berlin will be closed next week.",
    "The server was restarted after the update.",
    "I would like to schedule a call about the project.",
    "Your order has been shipped today.",
    "Please confirm the new address of the warehouse.",
    "The customer asked for a discount on the second item.",
    "We are looking for a larger meeting room.",
    "The training takes place on Tuesday.",
    "Here is the list of open issues.",
    "Thanks for the quick answer.",
    "The budget for next year was approved.",
    "Can you send me the signed copy?",
    "The quality check found no problems.",
    "The press release goes out tomorrow morning.",
    "Your password expires in seven days.",
    "Travel expenses must be handed in by the tenth.",
    "See you at the conference in Paris.",
];

impl Writer {
    /// Begins with the first message.
    pub fn new() -> Self {
        Self { random: 0x9E37_79B9_7F4A_7C15, number: 0 }
    }

    /// The next message, in the INBOX of this user.
    pub fn message(&mut self, to: &User, received_at: Timestamp) -> Acceptance {
        let raw = self.raw();
        let place = Placement {
            id: MessageId::new(received_at),
            mailbox: to.mailbox,
            folder: Folder::Inbox,
            address: to.address.clone(),
            direction: Direction::Inbound,
            status: MessageStatus::Stored,
        };
        let message = NewMessage {
            prefix: Bytes::from_static(b"Return-Path: <>\r\n"),
            content: Content::parse(raw.as_bytes()),
            body: raw.into_bytes().into(),
            sender: ReversePath::Null,
            received_at,
            dsn: MessageDsn::default(),
            tls: TlsWish::default(),
            auth_results: None,
            spam: None,
            arrival: None,
            fingerprint: None,
            marks: mairust_store::Marks::default(),
            placements: vec![place],
        };
        Acceptance { messages: vec![message], ..Acceptance::new(to.tenant) }
    }

    fn raw(&mut self) -> String {
        self.number += 1;
        let number = self.number;
        let sentences: &[&str] = if self.below(2) == 0 { &JAPANESE } else { &ENGLISH };
        let subject = match self.below(4) {
            0 => format!("請求書 INV-2026-{number:06}"),
            1 => format!("Report {number}"),
            2 => "会議のご案内".to_owned(),
            _ => self.sentence(sentences).to_owned(),
        };
        let name = NAMES[self.below(NAMES.len())];
        let (user, domain) = (self.below(400), self.below(50));
        let body: String = (0..8 + self.below(12)).map(|_| format!("{}\r\n", self.sentence(sentences))).collect();
        let head = format!(
            "From: {name} <{name}{user}@c{domain}.example>\r\nTo: dev@localhost\r\nSubject: {subject}\r\n\
             Message-ID: <{number}@c{domain}.example>\r\nMIME-Version: 1.0\r\n"
        );
        let text = format!("Content-Type: text/plain; charset=utf-8\r\n\r\n{body}お問い合わせ番号 {number}\r\n");
        if self.below(10) > 0 {
            return head + &text;
        }
        let file = format!(
            "Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment; filename=\"報告書{number}.pdf\"\r\n\r\nJVBERi0xLjQK\r\n"
        );
        format!("{head}Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{text}--b\r\n{file}--b--\r\n")
    }

    /// Some sentences are more usual than others.
    fn sentence(&mut self, sentences: &[&'static str]) -> &'static str {
        let (one, other) = (self.below(sentences.len()), self.below(sentences.len()));
        sentences[one.min(other)]
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}
