//! What the MaiRust mail platform keeps: messages, directory, queue; SQLite rows and immutable bodies
