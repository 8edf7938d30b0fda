//! Tests the `--help` of every example, and the small examples.

use super::Outcome;

crate::tests!(
    every_example_has_a_help,
    visibility_shows_private_and_shared_side_by_side,
    mailbox_delivers_both_messages_in_both_maps,
);

fn every_example_has_a_help() {
    for name in [
        "counter",
        "visibility",
        "hello_map",
        "mailbox",
        "writer",
        "reader",
        "copy",
    ] {
        let help = Outcome::success(name, &["--help"]);
        assert!(help.contains(&format!("Usage: {name}")), "{help}");
        Outcome::failure(name, &["--no-such-option"], 2);
    }
}

fn visibility_shows_private_and_shared_side_by_side() {
    let output = Outcome::success("visibility", &[]);
    let rows: Vec<Vec<&str>> = output
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        rows,
        [
            vec!["on the heap", "in a map"],
            vec!["child", "1", "1"],
            vec!["child", "2", "2"],
            vec!["child", "3", "3"],
            vec!["parent, afterwards", "1", "4"],
            vec![],
            vec!["in a global", "in a map"],
            vec!["parent", "1000", "7000"],
            vec!["child, afterwards", "100", "7000"],
        ]
    );
}

fn mailbox_delivers_both_messages_in_both_maps() {
    for map in ["anonymous", "file"] {
        let output = Outcome::success("mailbox", &["--map", map]);
        assert_eq!(
            output,
            "child received: hello, world\nparent received: nihao father!!\n"
        );
    }
}
