//! Tests requests and their answers over real connections.

use crate::clients::agent;
use crate::server::Server;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

crate::tests!(
    each_page_is_served_and_counted_once,
    hits_are_counted_over_all_workers,
    requests_that_come_in_pieces_or_together_are_answered_in_order,
    a_connection_is_closed_as_its_version_and_header_require,
    a_last_answer_arrives_although_more_requests_follow,
    a_target_may_name_the_server,
    invalid_requests_are_refused_with_their_status,
    an_expensive_answer_is_computed_once_for_all_workers,
    requests_above_the_rate_are_refused,
    faults_require_their_option,
);

/// Sends the bytes to a server and returns its output until it closes the connection.
fn exchange(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn get(server: &Server, path: &str) -> (u16, String) {
    let mut answer = agent().get(server.url(path)).call().unwrap();
    let status = answer.status().as_u16();
    (status, answer.body_mut().read_to_string().unwrap())
}

/// Returns the value of the metric with the line prefix `name`.
#[track_caller]
fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{text}"));
    value.trim().parse().expect("a whole number")
}

fn each_page_is_served_and_counted_once() {
    let mut server = Server::start(&["--workers", "2"]);
    assert!(get(&server, "/").1.contains("<h1>prefork</h1>"));
    assert_eq!(get(&server, "/count").1, "1\n");
    assert_eq!(
        get(&server, "/primes?below=100").1,
        "25 primes are less than 100\n"
    );
    let (status, page) = get(&server, "/workers");
    assert_eq!(status, 200);
    for worker in server.workers() {
        assert!(page.contains(&worker.to_string()), "{page}");
    }
    assert!(page.contains("the accept lock") && page.contains("http-equiv=\"refresh\""));
    assert_eq!(get(&server, "/nothing").0, 404);
    let (_, metrics) = get(&server, "/metrics");
    for route in ["/", "/count", "/primes", "/workers", "other"] {
        let name = format!("prefork_requests_total{{route=\"{route}\"}}");
        assert_eq!(metric(&metrics, &name), 1, "{route}");
    }
    assert_eq!(metric(&metrics, "prefork_responses_total{code=\"200\"}"), 4);
    assert_eq!(metric(&metrics, "prefork_responses_total{code=\"404\"}"), 1);
    assert_eq!(
        metric(&metrics, "prefork_request_duration_seconds_count"),
        5
    );
    assert_eq!(
        metric(
            &metrics,
            "prefork_request_duration_seconds_bucket{le=\"+Inf\"}"
        ),
        5
    );
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    // The request for /metrics is counted after its text is made and before it is sent. So the
    // state includes it and the text does not.
    assert_eq!(server.state().answered(), 6);
    server.end();
}

fn hits_are_counted_over_all_workers() {
    let mut server = Server::start(&["--workers", "3", "--keep-alive", "0"]);
    let mut seen: Vec<u64> = Vec::new();
    for _ in 0..60 {
        seen.push(get(&server, "/count").1.trim().parse().unwrap());
    }
    assert_eq!(seen, (1..=60).collect::<Vec<_>>());
    let state = server.state();
    let live_workers = state
        .workers
        .slots()
        .filter(|slot| slot.data.answered() > 0);
    assert!(live_workers.count() > 1, "one worker answered all of them");
    server.end();
}

fn requests_that_come_in_pieces_or_together_are_answered_in_order() {
    let mut server = Server::start(&["--workers", "1"]);
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n");
    let together = [request("/count"), request("/count"), request("/count")].concat();
    let answers = exchange(&server, together.as_bytes());
    let bodies: Vec<&str> = answers
        .lines()
        .filter(|line| line.parse::<u8>().is_ok())
        .collect();
    assert_eq!(bodies, ["1", "2", "3"], "{answers}");

    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in request("/count").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n4\n"), "{answer}");
    server.end();
}

fn a_connection_is_closed_as_its_version_and_header_require() {
    let mut server = Server::start(&["--workers", "1", "--keep-alive", "60000"]);
    // The client keeps its half of the connection open. So the end of the answer shows that the
    // server closed the connection.
    let closed = [
        "GET /count HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n",
        "GET /count HTTP/1.1\r\nHost: here\r\nConnection: upgrade, Close\r\n\r\n",
        "GET /count HTTP/1.0\r\n\r\n",
    ];
    for (request, count) in closed.iter().zip(1..) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{count}\n")), "{answer}");
    }
    let kept = [
        "GET /count HTTP/1.1\r\nHost: here\r\n\r\n",
        "GET /count HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    ];
    for request in kept {
        let answer = exchange(&server, request.as_bytes());
        assert!(
            answer.contains("\r\nConnection: keep-alive\r\n"),
            "{answer}"
        );
    }
    let head = exchange(&server, b"HEAD / HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(
        head.contains("Content-Length: ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    server.end();
}

fn a_last_answer_arrives_although_more_requests_follow() {
    let mut server = Server::start(&["--workers", "1"]);
    let more = "GET / HTTP/1.1\r\nHost: here\r\n\r\n".repeat(1000);
    let bytes = format!("GET /count HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n{more}");
    for count in 1..=5 {
        let answer = exchange(&server, bytes.as_bytes());
        assert!(answer.ends_with(&format!("\r\n\r\n{count}\n")), "{answer}");
    }
    server.end();
}

fn a_target_may_name_the_server() {
    let mut server = Server::start(&["--workers", "1"]);
    let ask = |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: here\r\n\r\n");
        exchange(&server, request.as_bytes())
    };
    assert!(ask("http://here/count").ends_with("\r\n\r\n1\n"));
    assert!(ask("HTTP://here:80/primes?below=3").contains("1 primes are less than 3"));
    assert!(ask("http://here").contains("<h1>prefork</h1>"));
    assert!(ask("http:/count").starts_with("HTTP/1.1 404 "));
    server.end();
}

fn invalid_requests_are_refused_with_their_status() {
    let mut server = Server::start(&["--workers", "1"]);
    let long = format!(
        "GET / HTTP/1.1\r\nHost: here\r\nX: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: here\r\n{}\r\n",
        "X: y\r\n".repeat(100)
    );
    let refused: [(&[u8], u16); 11] = [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/7.0\r\nHost: here\r\n\r\n", 505),
        (b"DELETE / HTTP/1.1\r\nHost: here\r\n\r\n", 405),
        (
            b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc",
            413,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: here\r\nContent-Length: \xff\r\n\r\n",
            413,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            413,
        ),
        (long.as_bytes(), 431),
        (many.as_bytes(), 431),
        (
            b"GET /primes?below=many HTTP/1.1\r\nHost: here\r\n\r\n",
            400,
        ),
    ];
    for (number, (request, status)) in refused.iter().enumerate() {
        let answer = exchange(&server, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{:?}: {answer}",
            String::from_utf8_lossy(&request[..request.len().min(80)])
        );
        assert_eq!(server.state().answered(), number as u64 + 1);
    }
    let head = exchange(&server, b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 400 ") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    // A client that sends no complete request is not counted.
    assert_eq!(exchange(&server, b""), "");
    assert_eq!(exchange(&server, b"GET / HTT"), "");
    assert_eq!(server.state().answered(), refused.len() as u64 + 1);
    server.end();
}

fn an_expensive_answer_is_computed_once_for_all_workers() {
    let mut server = Server::start(&["--workers", "3", "--keep-alive", "0"]);
    for _ in 0..30 {
        let answer = get(&server, "/primes?below=10000").1;
        assert_eq!(answer, "1229 primes are less than 10000\n");
    }
    let metrics = get(&server, "/metrics").1;
    assert_eq!(metric(&metrics, "prefork_cache_misses_total"), 1);
    assert_eq!(metric(&metrics, "prefork_cache_hits_total"), 29);
    // Other answers replace the cached one, and it is computed again.
    for below in 0..64 {
        get(&server, &format!("/primes?below={below}"));
    }
    assert_eq!(get(&server, "/primes?below=10000").0, 200);
    let metrics = get(&server, "/metrics").1;
    assert_eq!(metric(&metrics, "prefork_cache_misses_total"), 1 + 64 + 1);
    server.end();
}

fn requests_above_the_rate_are_refused() {
    let mut server = Server::start(&["--workers", "2", "--rate", "5"]);
    let agent = agent();
    let since = std::time::Instant::now();
    let mut statuses = Vec::new();
    for _ in 0..200 {
        let answer = agent.get(server.url("/")).call().unwrap();
        statuses.push(answer.status().as_u16());
        if statuses.last() == Some(&429) {
            assert_eq!(answer.headers()["retry-after"], "1");
        }
    }
    let passed = statuses.iter().filter(|status| **status == 200).count() as f64;
    // The bucket's initial tokens, and the refill during the test, however long it took.
    let most = 5.0 + 5.0 * since.elapsed().as_secs_f64();
    assert!((5.0..=most).contains(&passed), "{passed} of at most {most}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)));
    assert_eq!(server.state().answered(), 200);
    server.end();
}

fn faults_require_their_option() {
    let mut server = Server::start(&["--workers", "1"]);
    assert_eq!(get(&server, "/fault?kill=nothing").0, 404);
    assert_eq!(get(&server, "/fault?poke=accept").0, 404);
    assert_eq!(get(&server, "/fault").0, 404);
    server.end();
    let mut server = Server::start_without_faults();
    assert_eq!(get(&server, "/fault?kill=accept").0, 404);
    assert_eq!(get(&server, "/").0, 200);
    assert_eq!(server.state().deaths(), 0);
    server.end();
}
