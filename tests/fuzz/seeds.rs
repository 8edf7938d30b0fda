//! Writes the inputs from which the search starts to the folder of the corpus: files that the
//! library makes today.

#[path = "../it/damaged/check.rs"]
#[allow(dead_code, reason = "the inputs are only written here")]
mod check;

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/open");
    fs::create_dir_all(&corpus)?;
    for (number, input) in check::first_inputs(&std::env::temp_dir()).iter().enumerate() {
        fs::write(corpus.join(format!("first-{number:02}")), input)?;
    }
    Ok(())
}
