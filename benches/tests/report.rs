//! Tests the page of the lock benchmark, and the record file that it is made from.

use pshared_bench::record::{Record, Row};
use pshared_bench::report;

fn row(
    workload: &str,
    contender: &str,
    family: &str,
    processes: u32,
    round: u32,
    figure: &str,
    value: &str,
) -> Row {
    let unit = match figure {
        "throughput" => "Mops/s",
        "fairness" => "min/max",
        "cpu" => "s/Mop",
        "verdict" => "",
        _ => "ns",
    };
    Row {
        workload: workload.to_owned(),
        contender: contender.to_owned(),
        family: family.to_owned(),
        processes,
        inside_ns: 100,
        outside_ns: 200,
        placement: "all CPUs".to_owned(),
        round,
        figure: figure.to_owned(),
        unit: unit.to_owned(),
        value: value.to_owned(),
    }
}

fn of(rows: Vec<Row>) -> Record {
    Record {
        about: vec![("machine".to_owned(), "a machine".to_owned())],
        rows,
    }
}

/// Throughput at four processes, one row for each round.
fn throughput(contender: &str, family: &str, rounds: &[&str]) -> Vec<Row> {
    let rows = rounds.iter().zip(0..);
    rows.map(|(value, round)| {
        row(
            "contended",
            contender,
            family,
            4,
            round,
            "throughput",
            value,
        )
    })
    .collect()
}

/// A record with all workloads, figures and families.
fn full() -> Record {
    let contenders = [
        ("pshared robust", "pshared", "told"),
        ("pshared spin", "pshared", "hangs"),
        ("glibc robust", "glibc", "told"),
        ("bare futex", "kernel", "hangs"),
        ("posix-sync", "crate", "silent"),
        ("std Mutex", "in-process", "ok"),
        ("a new one", "a new family", "something new"),
    ];
    let mut rows = Vec::new();
    for ((name, family, fate), speed) in contenders.into_iter().zip(1..) {
        for round in 0..3 {
            let value =
                |scale: u32| format!("{}", f64::from(scale * speed) + f64::from(round) / 10.0);
            for processes in [1, 2, 4, 8, 64] {
                for figure in [
                    "throughput",
                    "fairness",
                    "cpu",
                    "p50",
                    "p99",
                    "p99.9",
                    "max",
                ] {
                    rows.push(row(
                        "contended",
                        name,
                        family,
                        processes,
                        round,
                        figure,
                        &value(processes),
                    ));
                }
            }
            rows.push(row(
                "uncontended",
                name,
                family,
                1,
                round,
                "p50",
                &value(10),
            ));
            rows.push(row(
                "handoff",
                name,
                family,
                2,
                round,
                "round trip",
                &value(4000),
            ));
            rows.push(row(
                "many locks",
                name,
                family,
                4,
                round,
                "throughput",
                &value(5),
            ));
            rows.push(row(
                "deaths",
                name,
                family,
                8,
                round,
                "recovery",
                &value(70000),
            ));
            rows.push(row("crash", name, family, 2, round, "verdict", fate));
        }
    }
    of(rows)
}

fn words(page: &str) -> &str {
    page.split_once("</style>")
        .expect("the page has no style sheet")
        .1
}

#[test]
fn an_empty_record_gives_a_page_without_charts() {
    let page = report::html(&Record::default());
    assert!(
        page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"),
        "{page}"
    );
    assert!(words(&page).contains("nothing was run"), "{page}");
    assert!(!page.contains("<svg"), "{page}");
}

#[test]
fn every_contender_is_named() {
    let record = full();
    let page = report::html(&record);
    for row in &record.rows {
        assert!(
            page.contains(&row.contender),
            "{} is missing",
            row.contender
        );
    }
    for id in [
        "throughput",
        "latency",
        "cost",
        "handoff",
        "crash",
        "deaths",
        "uncontended",
        "many",
        "all",
    ] {
        assert!(
            page.contains(&format!("<section id=\"{id}\"")),
            "{id} is missing"
        );
    }
    assert!(!page.contains("Left out"));
}

#[test]
fn a_workload_that_was_not_run_is_listed_as_left_out() {
    let page = report::html(&of(throughput("pshared robust", "pshared", &["5"])));
    for workload in ["handoff", "crash", "deaths", "uncontended", "many locks"] {
        assert!(
            page.contains(&format!(
                "Left out: the <i>{workload}</i> workload was not run"
            )),
            "{workload}"
        );
    }
}

#[test]
fn the_headline_is_computed() {
    let ours = throughput("pshared robust", "pshared", &["5.7", "5.8", "6.1"]);
    let glibc = throughput("glibc pshared", "glibc", &["1.9", "2", "2.1"]);
    let slower = throughput("glibc robust", "glibc", &["1", "1.1", "1"]);
    let page = report::html(&of([ours.clone(), glibc, slower].concat()));
    assert!(
        page.contains(
            "<b>pshared robust</b> completed <strong>2.90 ×</strong> the operations of glibc pshared"
        ),
        "{page}"
    );

    let faster = throughput("glibc pshared", "glibc", &["11", "11.6", "12"]);
    let page = report::html(&of([ours.clone(), faster].concat()));
    assert!(
        page.contains("<strong>0.500 ×</strong> the operations of glibc pshared"),
        "{page}"
    );
    assert!(!page.contains("the rounds overlap"), "{page}");

    let near = throughput("glibc pshared", "glibc", &["5", "5.7", "6"]);
    let page = report::html(&of([ours, near].concat()));
    assert!(page.contains("the rounds overlap"), "{page}");
}

#[test]
fn the_results_of_killed_holders_are_described_in_words() {
    let rows = [
        ("a", "told"),
        ("b", "silent"),
        ("c", "hangs"),
        ("d", "told"),
        ("d", "hangs"),
    ];
    let rows = rows
        .iter()
        .zip(0..)
        .map(|((name, fate), round)| row("crash", name, "crate", 2, round, "verdict", fate));
    let page = report::html(&of(rows.collect()));
    assert!(
        page.contains(
            "the next locker receives an error with a; acquires the lock without an error with b; waits forever with c and d."
        ),
        "{page}"
    );
    assert!(
        page.contains("✗ hangs</span> (1 of 2): every locker waits forever"),
        "{page}"
    );
}

#[test]
fn a_broken_lock_is_marked_and_has_no_figure() {
    let mut rows = throughput("pshared robust", "pshared", &["5", "5"]);
    rows.extend(throughput("glibc pshared", "glibc", &["777.25", "777.25"]));
    rows.push(row(
        "contended",
        "glibc pshared",
        "glibc",
        4,
        1,
        "verdict",
        "BROKEN: 3 of 1000 counts lost",
    ));
    let page = report::html(&of(rows));
    assert!(words(&page).contains("BROKEN"), "{page}");
    assert!(page.contains("3 of 1000 counts lost"), "{page}");
    assert!(
        !words(&page).contains("777"),
        "a broken lock's figure is on the page"
    );
    assert!(
        !page.contains("the best glibc contender"),
        "compared with a broken lock"
    );
}

#[test]
fn a_lock_that_hangs_has_no_figure() {
    let mut rows = throughput("pshared robust", "pshared", &["5", "5"]);
    rows.extend(throughput("glibc pshared", "glibc", &["777.25"]));
    rows.push(row(
        "contended",
        "glibc pshared",
        "glibc",
        4,
        1,
        "verdict",
        "hangs",
    ));
    let page = report::html(&of(rows));
    assert!(
        words(&page).contains("HANGS:</strong> glibc pshared hung although no process was killed"),
        "{page}"
    );
    assert!(
        !words(&page).contains("777"),
        "a figure of a lock that hangs is on the page"
    );
}

#[test]
fn wake_primitives_are_compared_with_each_other() {
    let mut rows = throughput("SharedMutex", "pshared", &["5"]);
    for (name, family, value) in [
        ("SharedEvent", "pshared", "5000"),
        ("sem_t pair", "glibc", "4000"),
    ] {
        rows.push(row("handoff", name, family, 2, 0, "round trip", value));
    }
    let page = report::html(&of(rows));
    assert!(page.contains("took 5.00 µs with SharedEvent"), "{page}");
    assert!(
        page.contains("<strong>1.25 ×</strong> that of sem_t pair"),
        "{page}"
    );
}

#[test]
fn medians_and_spread_are_those_of_the_rounds() {
    let odd = report::html(&of(throughput(
        "pshared robust",
        "pshared",
        &["9", "1.5", "2.25"],
    )));
    assert!(odd.contains("<td>2.25 (1.50–9.00)</td><td>3</td>"), "{odd}");
    let even = report::html(&of(throughput(
        "pshared robust",
        "pshared",
        &["9", "1.5", "2.25", "3.25"],
    )));
    assert!(
        even.contains("<td>2.75 (1.50–9.00)</td><td>4</td>"),
        "{even}"
    );
    let one = report::html(&of(throughput("pshared robust", "pshared", &["9"])));
    assert!(one.contains("<td>9.00</td><td>1</td>"), "{one}");
}

#[test]
fn the_text_of_a_record_is_escaped() {
    let markup = "<script>alert(\"&'\")</script>";
    let mut rows = throughput(markup, markup, &["5", "6"]);
    for figure in ["throughput", "p50", markup] {
        for workload in ["contended", "handoff", "uncontended", markup] {
            let mut row = row(workload, markup, markup, 2, 0, figure, "5");
            row.placement = markup.to_owned();
            row.unit = markup.to_owned();
            rows.push(row);
        }
    }
    rows.push(row(
        "contended",
        markup,
        markup,
        4,
        0,
        "verdict",
        &format!("BROKEN {markup}"),
    ));
    rows.push(row("crash", markup, markup, 4, 0, "verdict", markup));
    let record = Record {
        about: vec![(markup.to_owned(), markup.to_owned())],
        rows,
    };
    let page = report::html(&record);
    assert!(
        !page.contains("<script") && !page.contains("\"&'\""),
        "{page}"
    );
    assert!(page.contains("&lt;script&gt;"), "{page}");
}

#[test]
fn values_without_a_number_or_a_logarithm_do_no_harm() {
    let values = ["0", "-1", "NaN", "inf", "1e308", "1e-308", "", "text"];
    for value in values {
        let mut record = full();
        for row in record.rows.iter_mut().step_by(3) {
            row.value = value.to_owned();
        }
        assert!(report::html(&record).ends_with("</html>\n"), "{value}");
        record
            .rows
            .iter_mut()
            .for_each(|row| row.value = value.to_owned());
        assert!(report::html(&record).ends_with("</html>\n"), "{value} only");
    }
}

#[test]
fn charts_use_the_style_sheets_colours_and_load_nothing() {
    let page = report::html(&full());
    let body = words(&page);
    assert!(body.contains("<svg"), "{page}");
    for written in [
        "fill=\"#",
        "stroke=\"#",
        "<script",
        "<link",
        "<img",
        "url(",
        "href=\"http",
    ] {
        assert!(!body.contains(written), "{written} is on the page");
    }
    for chart in body.split("<svg").skip(1) {
        assert!(
            chart.contains("role=\"img\"") && chart.contains("<title>"),
            "a chart without a name"
        );
    }
}

#[test]
fn a_record_is_read_back_unchanged_from_its_file() {
    let mut record = full();
    record
        .about
        .push(("command".to_owned(), "bench --only 'a: b'".to_owned()));
    record.rows[0].contender = "a, \"quoted\" name".to_owned();
    let mut file = Vec::new();
    record
        .write(&mut file)
        .expect("a write to a vector cannot fail");
    assert_eq!(
        Record::read(file.as_slice()).expect("the written record cannot be read"),
        record
    );
}
