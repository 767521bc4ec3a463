//! What a hook wants done with a stored message.

/// What a `post_receive` hook wants done. The actions of several hooks are united.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Actions {
    /// Tags to put on the message.
    pub add_tags: Vec<String>,
}

impl Actions {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Puts a tag on the message. Tags hold 1 to 64 letters, digits and `_ : . / -`; others are
    /// dropped when the actions are applied.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.add_tags.push(tag.into());
        self
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.add_tags.is_empty()
    }

    /// Whether a tag has the allowed form.
    pub fn is_valid_tag(tag: &str) -> bool {
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.' | '/' | '-');
        (1..=64).contains(&tag.chars().count()) && tag.chars().all(allowed)
    }
}
