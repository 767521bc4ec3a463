//! The rules that come with MaiRust: few, and none that punishes a language or its encodings.

use super::rule::{MessagePart, Rule, RuleTest, TextPattern};

/// The text by which spam filters are tested: <https://spamassassin.apache.org/gtube/>.
const GTUBE: &str = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X";

/// Names of files that run when somebody opens them.
const EXECUTABLE: &str = "ade|adp|apk|application|appx|bat|chm|cmd|com|cpl|dll|exe|hta|ins|isp|jar|js|jse|lib|lnk|mde|\
    msc|msi|msix|msp|mst|nsh|pif|ps1|scr|sct|shb|sys|vb|vbe|vbs|vhd|vhdx|vxd|wsc|wsf|wsh";

/// A small set of rules against the thresholds of [`Thresholds::default`](super::Thresholds).
///
/// `GTUBE` alone refuses a message, an executable attachment alone puts it into quarantine; a
/// message that merely lacks header fields goes to Junk at worst.
pub fn default_rules() -> Vec<Rule> {
    let attachment = |pattern: String| text(MessagePart::Attachment, TextPattern::Regex(pattern));
    let subject =
        |pattern: &str| text(MessagePart::Header("Subject".to_owned()), TextPattern::Regex(pattern.to_owned()));
    let absent = |name: &str| RuleTest::HeaderAbsent(name.to_owned());
    vec![
        Rule::new("GTUBE", 1000.0, text(MessagePart::Body, TextPattern::Contains(GTUBE.to_owned())))
            .describe("holds the test string for spam filters"),
        Rule::new("EXECUTABLE_ATTACHMENT", 10.0, attachment(format!(r"\.({EXECUTABLE})\.?$")))
            .describe("has an attachment that runs when it is opened"),
        Rule::new(
            "DOUBLE_EXTENSION",
            3.0,
            attachment(format!(r"\.(docx?|gif|html?|jpe?g|pdf|png|pptx?|rtf|txt|xlsx?|zip)\s*\.({EXECUTABLE})\.?$")),
        )
        .describe("has an executable attachment that looks like a document"),
        // Turns `fdp.exe` into `exe.pdf` before the eyes of the reader.
        Rule::new("REVERSED_NAME", 8.0, attachment("[\u{202a}-\u{202e}\u{2066}-\u{2069}]".to_owned()))
            .describe("has an attachment whose name is shown in another order than it is written"),
        Rule::new("MISSING_FROM", 3.0, absent("From")).describe("has no From"),
        Rule::new("MISSING_DATE", 1.5, absent("Date")).describe("has no Date"),
        Rule::new("MISSING_MESSAGE_ID", 1.0, absent("Message-ID")).describe("has no Message-ID"),
        // Only scripts with capitals have letters that are not capitals: Japanese never fits.
        Rule::new("SUBJECT_ALL_CAPS", 1.5, subject(r"(?-i)^(?:\P{L}*\p{Lu}){10,}\P{L}*$"))
            .describe("has a Subject in capitals"),
        Rule::new("SUBJECT_SHOUTS", 1.0, subject(r"[!?]{3}|\${3}")).describe("has a Subject with !!! or $$$"),
    ]
}

fn text(part: MessagePart, pattern: TextPattern) -> RuleTest {
    RuleTest::Text { part, pattern }
}
