//! Cutting texts into words, for what is searched and for what is looked for alike.
//!
//! A text is brought into one form first: NFKC, so that full-width `ＡＢＣ` is `abc` and half-width
//! `ｶﾀｶﾅ` is `カタカナ`, and lower case. Letters and digits make words, everything else stands
//! between words: `Tanaka@example.co.jp` is `tanaka example co jp`, `INV-2026-001` is `inv 2026 001`.
//!
//! Scripts that put no spaces between words (Han, kana, Hangul, Thai and others) are cut into
//! overlapping pairs of characters, and the last character of each run stands for itself: 東京都 is
//! `東京 京都 都`. So exactly one word begins at each character, and any part of a run is a sequence
//! of words: 京都 is found in 東京都, as it would be by looking through the text. A single
//! character, which is no pair, is found as the beginning of a word.
//!
//! A line may break anywhere in such scripts, so a single line break inside a run is nothing.
//!
//! Deliberately absent: dictionaries, stemming, removal of diacritics, words that don't count.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// Words in a row, as they are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Phrase {
    /// In order; at least one.
    pub(crate) words: Vec<String>,
    /// Whether the last of them only has to begin a word.
    pub(crate) prefix: bool,
}

/// Characters of a word that count; long ones are no words but data.
const MAX_WORD: usize = 64;

impl Phrase {
    /// What is to be looked for when somebody looks for this text; `None` if it holds no letter and
    /// no digit.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let mut words = Vec::new();
        let last = cut(text, &mut |word| words.push(word.to_owned()));
        // In the text that is searched the run may go on.
        let prefix = match last {
            Last::Nothing => return None,
            Last::Run(1) => true,
            Last::Run(_) => words.pop().is_none(),
            Last::Word => false,
        };
        Some(Self { words, prefix })
    }

    /// Whether the phrase stands somewhere in these words.
    pub(crate) fn stands_in(&self, words: &[&str]) -> bool {
        let whole = self.words.len() - usize::from(self.prefix);
        let (front, last) = self.words.split_at(whole);
        words.windows(self.words.len()).any(|found| {
            found[..whole].iter().zip(front).all(|(found, word)| found == word)
                && last.iter().zip(&found[whole..]).all(|(word, found)| found.starts_with(word.as_str()))
        })
    }
}

/// Adds the words of a text to a list, a space before each but the first.
pub(crate) fn append(list: &mut String, text: &str) {
    cut(text, &mut |word| {
        if !list.is_empty() {
            list.push(' ');
        }
        list.push_str(word);
    });
}

/// What a text ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Nothing,
    /// A run of so many characters of a script without spaces.
    Run(usize),
    Word,
}

/// Cuts a text into its words, in order.
fn cut(text: &str, each: &mut dyn FnMut(&str)) -> Last {
    let text = normalized(text);
    if text.is_ascii() {
        return cut_ascii(&text, each);
    }
    let mut last = Last::Nothing;
    let mut characters = text.chars().peekable();
    while let Some(first) = characters.next() {
        if is_unspaced(first) {
            let (mut length, mut current) = (1, first);
            while let Some(next) = next_of_run(&mut characters) {
                each(String::from_iter([current, next]).as_str());
                (length, current) = (length + 1, next);
            }
            each(current.encode_utf8(&mut [0; 4]));
            last = Last::Run(length);
        } else if is_spaced(first) {
            let (mut word, mut length) = (String::from(first), 1);
            while let Some(next) = characters.next_if(|next| is_spaced(*next)) {
                if length < MAX_WORD {
                    word.push(next);
                }
                length += 1;
            }
            each(&word);
            last = Last::Word;
        }
    }
    last
}

/// As [`cut`], for most of what is to be cut.
fn cut_ascii(text: &str, each: &mut dyn FnMut(&str)) -> Last {
    let mut last = Last::Nothing;
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        each(&word[..word.len().min(MAX_WORD)]);
        last = Last::Word;
    }
    last
}

/// The next character of a run, behind a line break if there is one.
fn next_of_run(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    let mut ahead = characters.clone();
    ahead.next_if_eq(&'\r');
    ahead.next_if_eq(&'\n');
    let next = ahead.next_if(|next| is_unspaced(*next))?;
    *characters = ahead;
    Some(next)
}

/// The one form of all texts that mean the same.
fn normalized(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    let normalizer = ComposingNormalizerBorrowed::new_nfkc();
    // Lower case may take characters apart again.
    Cow::Owned(normalizer.normalize(&normalizer.normalize(text).to_lowercase()).into_owned())
}

/// Whether a character is part of a word of a script that puts spaces between words.
fn is_spaced(c: char) -> bool {
    // Accents that no letter was composed with belong to the letter before them.
    (c.is_alphanumeric() && !is_unspaced(c)) || matches!(c, '\u{300}'..='\u{36F}')
}

/// Whether a character is of a script that puts no spaces between words, or is used like one.
fn is_unspaced(c: char) -> bool {
    if c < '\u{0E00}' {
        return false;
    }
    let script = matches!(c,
        '\u{0E00}'..='\u{0EFF}' // Thai, Lao
        | '\u{1000}'..='\u{109F}' // Myanmar
        | '\u{1100}'..='\u{11FF}' // Hangul, single letters
        | '\u{1780}'..='\u{17FF}' // Khmer
        | '\u{2E80}'..='\u{31FF}' // radicals, kana, Bopomofo, 々, 〇
        | '\u{3400}'..='\u{9FFF}' // Han
        | '\u{A960}'..='\u{A97F}' | '\u{AC00}'..='\u{D7FF}' // Hangul
        | '\u{F900}'..='\u{FAFF}' // Han, for compatibility
        | '\u{1AFF0}'..='\u{1B16F}' // kana
        | '\u{20000}'..='\u{3FFFF}' // Han
    );
    script && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut list = String::new();
        append(&mut list, text);
        list.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    fn finds(wanted: &str, text: &str) -> bool {
        let words = words(text);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Phrase::of(wanted).unwrap().stands_in(&words)
    }

    #[test]
    fn words_are_letters_and_digits_in_one_form() {
        assert_eq!(words("Tanaka <tanaka@Example.co.jp>"), ["tanaka", "tanaka", "example", "co", "jp"]);
        assert_eq!(words("INV-2026-001, ＡＢＣ１２３"), ["inv", "2026", "001", "abc123"]);
        assert_eq!(words("STRAẞE e\u{301}TÉ i\u{307}x"), ["straße", "été", "i\u{307}x"]);
        assert_eq!(words(" \u{0}…「」\r\n"), [""; 0]);
        assert_eq!(words(&"x".repeat(200)), ["x".repeat(64)]);
    }

    #[test]
    fn runs_are_cut_into_pairs() {
        assert_eq!(words("東京都"), ["東京", "京都", "都"]);
        assert_eq!(words("第3回会議"), ["第", "3", "回会", "会議", "議"]);
        assert_eq!(words("ｶﾞｲﾄﾞのﾃｽﾄ"), words("ガイドのテスト"));
        assert_eq!(words("請求\r\n書"), words("請求書"));
        assert_ne!(words("請求\n\n書"), words("請求書"));
        assert_eq!(words("한국어 ไทย"), ["한국", "국어", "어", "ไท", "ทย", "ย"]);
    }

    #[test]
    fn any_part_of_a_run_is_found() {
        for (wanted, text) in [
            ("会議", "明日の会議は中止です"),
            ("京都", "東京都"),
            ("東京都", "東京都の請求書"),
            ("都", "東京都"),
            ("京", "東京都"),
            ("3回", "第3回会議"),
            ("回3", "前回3時"),
            ("カタカナ", "全角と半角のｶﾀｶﾅ"),
            ("ABC商事2026", "株式会社abc商事2026年度"),
            ("example.co.jp", "info@mail.example.co.jp"),
            ("\"tanaka\"", "From: TANAKA Taro"),
        ] {
            assert!(finds(wanted, text), "{wanted} in {text}");
        }
    }

    #[test]
    fn pairs_must_stand_in_a_row() {
        for (wanted, text) in [
            ("東京都", "京都と東京"),
            ("会議室", "会議"),
            ("会議", "会計と議事"),
            ("tana", "tanaka"),
            ("example.co.jp", "co.example.jp"),
            ("都3", "都会3"),
        ] {
            assert!(!finds(wanted, text), "{wanted} in {text}");
        }
    }

    #[test]
    fn only_a_single_character_may_begin_a_word() {
        let phrase = |text| Phrase::of(text).unwrap();
        assert_eq!(phrase("請求書"), Phrase { words: vec!["請求".to_owned(), "求書".to_owned()], prefix: false });
        assert_eq!(phrase("書"), Phrase { words: vec!["書".to_owned()], prefix: true });
        assert!(!phrase("a").prefix);
        assert_eq!(Phrase::of("!?"), None);
    }
}
