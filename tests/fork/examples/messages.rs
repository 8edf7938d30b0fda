//! Tests `writer` and `reader`: unrelated processes that share one file.

use super::{Outcome, example};
use crate::support::{sleeps, until};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

crate::tests!(
    a_reader_that_starts_before_the_writer_wakes_for_its_message,
    a_reader_that_starts_after_the_writer_gets_the_latest,
    every_reader_wakes_for_every_message,
    readers_go_on_while_writers_die,
    reader_and_writer_do_not_change_a_file_of_another_program,
);

/// The path of a file that does not exist yet, for readers and writers.
struct MessageFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl MessageFile {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("messages");
        MessageFile {
            _directory: directory,
            path,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("text")
    }

    fn reader(&self, messages: Option<u64>) -> Reader {
        let mut command = example("reader");
        command.arg(&self.path);
        if let Some(messages) = messages {
            command.arg("--messages").arg(messages.to_string());
        }
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a reader");
        let lines = BufReader::new(process.stdout.take().expect("a pipe"));
        Reader { process, lines }
    }

    fn writer(&self) -> Writer {
        let mut process = example("writer")
            .arg(&self.path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a writer");
        let lines = process.stdin.take().expect("a pipe");
        Writer { process, lines }
    }
}

struct Reader {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Reader {
    /// Returns the next message that the reader prints, with its number.
    #[track_caller]
    fn message(&mut self) -> (u64, String) {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a line");
        let (number, text) = line
            .trim_end()
            .split_once(": ")
            .unwrap_or_else(|| panic!("no message: {line:?}"));
        (number.parse().expect("a number"), text.into())
    }

    #[track_caller]
    fn ends(mut self) {
        assert!(self.process.wait().expect("a status").success());
        let mut rest = String::new();
        self.lines.read_line(&mut rest).expect("the end");
        assert_eq!(rest, "");
    }
}

struct Writer {
    process: Child,
    lines: ChildStdin,
}

impl Writer {
    fn write(&mut self, line: &str) {
        writeln!(self.lines, "{line}").expect("the writer reads its input");
    }

    #[track_caller]
    fn ends(self) {
        let Writer { mut process, lines } = self;
        drop(lines);
        assert!(process.wait().expect("a status").success());
    }
}

fn a_reader_that_starts_before_the_writer_wakes_for_its_message() {
    let file = MessageFile::new();
    let mut reader = file.reader(Some(1));
    until(|| sleeps(reader.process.id()));
    let mut writer = file.writer();
    writer.write("first");
    assert_eq!(reader.message(), (1, "first".into()));
    reader.ends();
    writer.ends();
}

fn a_reader_that_starts_after_the_writer_gets_the_latest() {
    let file = MessageFile::new();
    Outcome::success("writer", &[file.path(), "--messages", "3"]);
    for _ in 0..2 {
        let mut reader = file.reader(Some(1));
        assert_eq!(reader.message(), (3, "message 3 of 3".into()));
        reader.ends();
    }
    // A later writer continues the numbers. Text that does not fit is cut at a character boundary.
    let mut writer = file.writer();
    writer.write(&"ü".repeat(51));
    writer.ends();
    let mut reader = file.reader(Some(1));
    assert_eq!(reader.message(), (4, "ü".repeat(50)));
    reader.ends();
}

fn every_reader_wakes_for_every_message() {
    const MESSAGES: u64 = 200;
    let file = MessageFile::new();
    let mut readers = [(); 5].map(|()| file.reader(Some(MESSAGES)));
    let mut writer = file.writer();
    for number in 1..=MESSAGES {
        writer.write(&format!("line {number}"));
        // Write the next line only after all readers have printed this one, so that no reader skips
        // one.
        for reader in &mut readers {
            assert_eq!(reader.message(), (number, format!("line {number}")));
        }
    }
    writer.ends();
    readers.into_iter().for_each(Reader::ends);
}

fn readers_go_on_while_writers_die() {
    const WRITERS: usize = 100;
    const MANY: &str = "1000000000000";
    let file = MessageFile::new();
    let mut readers = [(); 3].map(|()| file.reader(None));
    let mut last = [0; 3];
    for _ in 0..WRITERS {
        let mut writer = example("writer")
            .args([file.path(), "--messages", MANY])
            .stderr(Stdio::null())
            .spawn()
            .expect("a writer");
        for _ in 0..fastrand::u32(1..40) {
            for (reader, last) in readers.iter_mut().zip(&mut last) {
                let (number, text) = reader.message();
                assert!(number > *last, "{number} after {last}");
                *last = number;
                // A reader must never print a mixture of two messages.
                let written = text
                    .strip_prefix("message ")
                    .and_then(|text| text.strip_suffix(" of 1000000000000"));
                assert!(
                    written.is_some_and(|number| number.parse::<u64>().is_ok()),
                    "{text:?}"
                );
            }
        }
        writer.kill().expect("the writer runs");
        assert_eq!(writer.wait().expect("a status").signal(), Some(9));
    }
    let mut writer = file.writer();
    writer.write("the last message");
    writer.ends();
    for mut reader in readers {
        while reader.message().1 != "the last message" {}
        until(|| sleeps(reader.process.id()));
        reader.process.kill().expect("the reader runs");
        reader.process.wait().expect("a status");
    }
}

fn reader_and_writer_do_not_change_a_file_of_another_program() {
    let file = MessageFile::new();
    let content = "Dear reader, this is not a map.\n".repeat(300);
    fs::write(&file.path, &content).expect("written");
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o600)).expect("permissions");
    for program in ["reader", "writer"] {
        let refusal = Outcome::failure(program, &[file.path()], 1);
        assert!(
            refusal.starts_with(&format!("{program}: {} holds no value", file.path())),
            "{refusal}"
        );
    }
    assert_eq!(fs::read_to_string(&file.path).expect("the file"), content);
}
