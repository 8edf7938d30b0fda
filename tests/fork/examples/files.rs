//! Tests `hello_map` and `copy`, which access files through maps.

use super::Outcome;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

crate::tests!(
    hello_map_leaves_its_bytes_in_the_file,
    copies_are_equal_empty_ones_included,
    copy_refuses_what_it_would_destroy,
);

fn hello_map_leaves_its_bytes_in_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hello.txt");
    let path = path.to_str().expect("text");
    let shown = "\
in the map:              hello mmap
in the file, afterwards: hello mmap
in a private map:        HELLO mmap
in the file, still:      hello mmap
";
    assert_eq!(Outcome::success("hello_map", &[path]), shown);
    let bytes = b"hello mmap\0\0\0\0\0\0\0\0\0\0";
    assert_eq!(fs::read(path).expect("the file"), bytes);
    let refusal = Outcome::failure("hello_map", &[path], 1);
    assert!(
        refusal.starts_with(&format!("hello_map: {path}: File exists")),
        "{refusal}"
    );
    assert_eq!(fs::read(path).expect("the file"), bytes);
    assert_eq!(Outcome::success("hello_map", &[]), shown);
}

fn copies_are_equal_empty_ones_included() {
    let directory = tempfile::tempdir().expect("a directory");
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let names = [&from, &to].map(|path| path.to_str().expect("text"));
    for length in [0, 1, 4095, 4096, 4097, 1 << 20, (3 << 20) + 5] {
        let bytes: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
        fs::write(&from, &bytes).expect("written");
        fs::set_permissions(&from, fs::Permissions::from_mode(0o640)).expect("permissions");
        let output = Outcome::success("copy", &names);
        assert_eq!(output, format!("copied and compared {length} bytes\n"));
        assert_eq!(fs::read(&to).expect("the copy"), bytes);
        assert_eq!(
            fs::metadata(&to).expect("the copy").permissions().mode() & 0o7777,
            0o640
        );
        fs::remove_file(&to).expect("the copy exists");
    }
}

fn copy_refuses_what_it_would_destroy() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let (from, to, link) = (path("from"), path("to"), path("link"));
    fs::write(&from, "new").expect("written");
    fs::write(&to, "old").expect("written");
    fs::hard_link(&from, &link).expect("linked");
    let missing = path("missing");
    let [from, to, link, missing] =
        [&from, &to, &link, &missing].map(|path| path.to_str().expect("text"));

    let refusal = Outcome::failure("copy", &[from, to], 1);
    assert!(refusal.contains("--force"), "{refusal}");
    assert_eq!(fs::read(to).expect("the file"), b"old");
    for same in [from, link] {
        let refusal = Outcome::failure("copy", &[from, same, "--force"], 1);
        assert!(refusal.contains("the same file"), "{refusal}");
    }
    assert_eq!(fs::read(from).expect("the file"), b"new");
    assert!(Outcome::failure("copy", &[missing, to], 1).contains(missing));
    assert!(Outcome::failure("copy", &["/dev/null", missing], 1).contains("not a regular file"));
    // The file's metadata gives a length of 0 bytes, but reads return some.
    assert!(Outcome::failure("copy", &["/proc/self/status", missing], 1).contains("changed"));
    assert!(!Path::new(missing).exists());

    assert_eq!(
        Outcome::success("copy", &[from, to, "--force"]),
        "copied and compared 3 bytes\n"
    );
    assert_eq!(fs::read(to).expect("the file"), b"new");
    let mut left: Vec<_> = fs::read_dir(directory.path())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["from", "link", "to"]);
}
