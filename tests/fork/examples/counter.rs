//! Tests `counter`, the main example.

use super::Outcome;

crate::tests!(
    counter_prints_each_number_once,
    counter_is_exact_in_every_map_under_either_lock,
    counter_without_a_lock_loses_updates_and_reports_how_many,
    counter_stays_exact_while_workers_are_killed,
    counter_refuses_what_would_hang_or_fill_the_memory,
);

/// Returns the number that follows `before` in the report's line that contains `before` and
/// `after`.
#[track_caller]
fn number(report: &str, before: &str, after: &str) -> u64 {
    let line = report
        .lines()
        .find(|line| line.contains(before) && line.contains(after))
        .unwrap_or_else(|| panic!("no line with {before:?} and {after:?} in\n{report}"));
    let start = line.find(before).expect("just found") + before.len();
    let digits = line[start..]
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next();
    digits
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_else(|| panic!("no number in {line:?}"))
}

fn counter_prints_each_number_once() {
    let output = Outcome::success("counter", &[]);
    let mut all = Vec::new();
    for prefix in ["parent: ", "child: "] {
        let numbers: Vec<u64> = output
            .lines()
            .filter_map(|line| line.strip_prefix(prefix))
            .map(|number| number.parse().expect("a number"))
            .collect();
        assert_eq!(numbers.len(), 3, "{output}");
        assert!(numbers.is_sorted(), "{output}");
        all.extend(numbers);
    }
    // The workers print under the lock, so the numbers are also in order.
    let printed: Vec<u64> = output
        .lines()
        .filter_map(|line| {
            line.strip_prefix("parent: ")
                .or(line.strip_prefix("child: "))
        })
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert_eq!(printed, [0, 1, 2, 3, 4, 5], "{output}");
    all.sort_unstable();
    assert_eq!(all, printed);
    assert_eq!(verified(&output), 3, "{output}");
    // With more than one child, each child has its own name.
    let output = Outcome::success("counter", &["--workers", "4", "--loops", "5"]);
    for prefix in ["parent: ", "child 1: ", "child 2: ", "child 3: "] {
        assert_eq!(
            output
                .lines()
                .filter(|line| line.starts_with(prefix))
                .count(),
            5,
            "{output}"
        );
    }
    let quiet = Outcome::success("counter", &["--quiet"]);
    assert!(!quiet.contains("parent: "), "{quiet}");
}

/// Returns how many of the report's checks passed.
fn verified(report: &str) -> usize {
    report
        .lines()
        .filter(|line| line.starts_with("ok "))
        .count()
}

fn counter_is_exact_in_every_map_under_either_lock() {
    for map in ["anonymous", "dev-zero", "file", "memfd"] {
        for lock in ["mutex", "semaphore"] {
            let options = [
                "--workers",
                "4",
                "--loops",
                "25000",
                "--map",
                map,
                "--lock",
                lock,
            ];
            let report = Outcome::success("counter", &options);
            assert!(report.contains("the count is 100000, exact"), "{report}");
            assert!(
                report.contains("every number from 0 to 99999 was taken exactly once"),
                "{report}"
            );
            assert_eq!(verified(&report), 3, "{report}");
        }
    }
}

fn counter_without_a_lock_loses_updates_and_reports_how_many() {
    // If each worker happens to end before the next one starts, no update is lost and the report
    // says so.
    loop {
        let outcome = Outcome::of("counter", &["--lock", "none"]);
        let report = &outcome.out;
        if verified(report) == 3 {
            assert_eq!(outcome.code, Some(0), "{report}");
            continue;
        }
        assert_eq!(outcome.code, Some(1), "{report}");
        let count = number(report, "the count is", "updates were lost");
        let lost = number(report, "instead of 400000:", "updates were lost");
        assert!(lost > 0, "{report}");
        assert_eq!(count + lost, 400_000, "{report}");
        return;
    }
}

fn counter_stays_exact_while_workers_are_killed() {
    let (mut all_kills, mut all_notified, mut all_repaired) = (0, 0, 0);
    while all_kills < 300 || all_repaired == 0 {
        let report = Outcome::success(
            "counter",
            &["--kill", "--workers", "3", "--loops", "200000"],
        );
        assert!(report.contains("the count is 600000, exact"), "{report}");
        assert!(
            report.contains("every number from 0 to 599999 was taken exactly once"),
            "{report}"
        );
        assert_eq!(verified(&report), 3, "{report}");
        let kills = number(&report, "killed", "workers with SIGKILL");
        let notified = number(&report, "notified", "lockers");
        let repaired = number(&report, "repaired", "counts");
        assert!(repaired <= notified && notified <= kills, "{report}");
        all_kills += kills;
        all_notified += notified;
        all_repaired += repaired;
    }
    println!("{all_kills} kills, {all_notified} notified, {all_repaired} repaired");
}

fn counter_refuses_what_would_hang_or_fill_the_memory() {
    let refusal = Outcome::failure("counter", &["--kill", "--lock", "semaphore"], 2);
    assert!(
        refusal.contains("permit") && refusal.contains("wait forever"),
        "{refusal}"
    );
    Outcome::failure("counter", &["--kill", "--lock", "none"], 2);
    Outcome::failure("counter", &["--workers", "0"], 2);
    Outcome::failure("counter", &["--loops", "0"], 2);
    let refusal = Outcome::failure(
        "counter",
        &["--workers", "1000", "--loops", "1000000000"],
        2,
    );
    assert!(refusal.contains("too many"), "{refusal}");
}
