//! Hooks of the MaiRust mail platform: code that decides about mail on its way
