//! `vestibule schema`: the JSON Schema of the configuration, for editors.

use super::{Failure, print};

pub(super) fn schema() -> Result<(), Failure> {
    print(&text())
}

/// The schema, indented, with a newline at its end.
fn text() -> String {
    format!("{:#}\n", crate::config::schema())
}
