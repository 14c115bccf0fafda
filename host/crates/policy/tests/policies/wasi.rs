//! Guests of toolchains that insist on WASI: it is there, nothing is in it, and nothing of it waits.

use std::time::{Duration, Instant};

use rstest::rstest;

use crate::guest;
use crate::log::logged_while;
use crate::{cached, decide, engine, failed, policy, set_of, set_with};

/// What is used of WASI here, as it is in its own texts.
const WASI: &str = "
    package wasi:io@0.2.3 {
        interface error { resource error; }
        interface poll {
            resource pollable { block: func(); }
            poll: func(in: list<borrow<pollable>>) -> list<u32>;
        }
        interface streams {
            use error.{error};
            variant stream-error { last-operation-failed(error), closed }
            resource input-stream { blocking-read: func(len: u64) -> result<list<u8>, stream-error>; }
            resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
        }
    }
    package wasi:clocks@0.2.3 {
        interface monotonic-clock {
            use wasi:io/poll@0.2.3.{pollable};
            now: func() -> u64;
            subscribe-duration: func(when: u64) -> pollable;
        }
    }
    package wasi:random@0.2.3 {
        interface random { get-random-bytes: func(len: u64) -> list<u8>; get-random-u64: func() -> u64; }
    }
    package wasi:cli@0.2.3 {
        interface environment {
            get-environment: func() -> list<tuple<string, string>>;
            get-arguments: func() -> list<string>;
        }
        interface exit { exit: func(status: result); }
        interface stdin { use wasi:io/streams@0.2.3.{input-stream}; get-stdin: func() -> input-stream; }
        interface stdout { use wasi:io/streams@0.2.3.{output-stream}; get-stdout: func() -> output-stream; }
        interface stderr { use wasi:io/streams@0.2.3.{output-stream}; get-stderr: func() -> output-stream; }
    }
    package wasi:filesystem@0.2.3 {
        interface types { resource descriptor; }
        interface preopens {
            use types.{descriptor};
            get-directories: func() -> list<tuple<descriptor, string>>;
        }
    }
    package wasi:sockets@0.2.3 {
        interface network {
            enum error-code {
                unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, concurrency-conflict,
                not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable, address-in-use,
                remote-unreachable, connection-refused, connection-reset, connection-aborted, datagram-too-large,
                name-unresolvable, temporary-resolver-failure, permanent-resolver-failure,
            }
            enum ip-address-family { ipv4, ipv6 }
        }
        interface tcp { resource tcp-socket; }
        interface tcp-create-socket {
            use network.{error-code, ip-address-family};
            use tcp.{tcp-socket};
            create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
        }
        interface udp { resource udp-socket; }
        interface udp-create-socket {
            use network.{error-code, ip-address-family};
            use udp.{udp-socket};
            create-udp-socket: func(address-family: ip-address-family) -> result<udp-socket, error-code>;
        }
    }";

/// Every function above, under a name of its own.
const FUNCTIONS: &str = r#"
    (import "cache-registry:policy/types@0.1.0" "[resource-drop]pod" (func $drop_pod (param i32)))
    (import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $now (result i64)))
    (import "wasi:clocks/monotonic-clock@0.2.3" "subscribe-duration" (func $after (param i64) (result i32)))
    (import "wasi:io/poll@0.2.3" "[method]pollable.block" (func $block (param i32)))
    (import "wasi:io/poll@0.2.3" "[resource-drop]pollable" (func $drop_pollable (param i32)))
    (import "wasi:io/poll@0.2.3" "poll" (func $poll (param i32 i32 i32)))
    (import "wasi:random/random@0.2.3" "get-random-bytes" (func $random_bytes (param i64 i32)))
    (import "wasi:random/random@0.2.3" "get-random-u64" (func $random (result i64)))
    (import "wasi:cli/environment@0.2.3" "get-environment" (func $environment (param i32)))
    (import "wasi:cli/environment@0.2.3" "get-arguments" (func $arguments (param i32)))
    (import "wasi:cli/exit@0.2.3" "exit" (func $exit (param i32)))
    (import "wasi:cli/stdin@0.2.3" "get-stdin" (func $stdin (result i32)))
    (import "wasi:cli/stdout@0.2.3" "get-stdout" (func $stdout (result i32)))
    (import "wasi:cli/stderr@0.2.3" "get-stderr" (func $stderr (result i32)))
    (import "wasi:io/streams@0.2.3" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
    (import "wasi:io/streams@0.2.3" "[method]output-stream.blocking-write-and-flush"
        (func $write (param i32 i32 i32 i32)))
    (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $directories (param i32)))
    (import "wasi:sockets/tcp-create-socket@0.2.3" "create-tcp-socket" (func $socket (param i32 i32)))
    (import "wasi:sockets/udp-create-socket@0.2.3" "create-udp-socket" (func $udp_socket (param i32 i32)))"#;

/// A filter that does `body` before it answers `pass`. What functions return goes to 256.
pub(crate) fn filter(data: &str, body: &str) -> Vec<u8> {
    let world = format!(
        "package test:guest;
         {WASI}
         world guest {{
             import cache-registry:policy/types@0.1.0;
             import wasi:clocks/monotonic-clock@0.2.3; import wasi:io/poll@0.2.3; import wasi:io/streams@0.2.3;
             import wasi:random/random@0.2.3; import wasi:cli/environment@0.2.3; import wasi:cli/exit@0.2.3;
             import wasi:cli/stdin@0.2.3; import wasi:cli/stdout@0.2.3; import wasi:cli/stderr@0.2.3;
             import wasi:filesystem/preopens@0.2.3; import wasi:sockets/tcp-create-socket@0.2.3;
             import wasi:sockets/udp-create-socket@0.2.3;
             export cache-registry:policy/filter@0.1.0;
         }}"
    );
    let module = format!(
        r#"(module {FUNCTIONS}
             (memory (export "memory") 4)
             (global $heap (mut i32) (i32.const 4096))
             (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
               (global.get $heap)
               (global.set $heap (i32.and (i32.add (global.get $heap) (i32.add (local.get $size) (i32.const 7))) (i32.const -8))))
             {data}
             (func (export "cache-registry:policy/filter@0.1.0#filter") (param $pod i32) (param{}) (result i32)
               (local $i i32)
               {body} (call $drop_pod (local.get $pod)) (i32.const 64)))"#,
        " i32".repeat(14)
    );
    guest::encode(&world, &module)
}

/// A list of no elements: a pointer and a length.
const NOTHING: &str = "(i32.eqz (i32.load offset=4 (i32.const 256)))";
/// An error, and its case of the number 1: that a stream is closed, that access is denied.
const DENIED: &str = "(i32.and (i32.eq (i32.load8_u (i32.const 256)) (i32.const 1)) \
                               (i32.eq (i32.load8_u offset=4 (i32.const 256)) (i32.const 1)))";

/// Writes the text in memory to a stream.
fn print(stream: &str, from: usize, length: usize) -> String {
    format!("(call $write (call ${stream}) (i32.const {from}) (i32.const {length}) (i32.const 256))")
}

#[rstest]
#[case::environment("(call $environment (i32.const 256))", NOTHING)]
#[case::arguments("(call $arguments (i32.const 256))", NOTHING)]
#[case::directories("(call $directories (i32.const 256))", NOTHING)]
#[case::standard_input("(call $read (call $stdin) (i64.const 10) (i32.const 256))", DENIED)]
#[case::sockets("(call $socket (i32.const 0) (i32.const 256))", DENIED)]
#[case::datagrams("(call $udp_socket (i32.const 0) (i32.const 256))", DENIED)]
#[tokio::test]
async fn nothing_is_in_it(#[case] call: &str, #[case] expected: &str) {
    let before = "(i64.store (i32.const 256) (i64.const 0x0707070707070707))";
    let set = set_with(&filter("", &format!("{before} {call} (if (i32.eqz {expected}) (then unreachable))")));
    assert_eq!(decide(&set, &["a:1"]).await, [cached("a:1")]);
}

#[rstest]
#[case::block("(call $block (call $after (i64.const 1000000)))")]
#[case::poll(
    "(i32.store (i32.const 512) (call $after (i64.const 1000000))) \
     (call $poll (i32.const 512) (i32.const 1) (i32.const 256))"
)]
#[tokio::test]
async fn waiting_for_time_to_pass_ends_at_once(#[case] body: &str) {
    let set = set_with(&filter("", body));
    let began = Instant::now();
    let words = "policy guest waited for time to pass, which it does not while a policy is asked";
    assert_eq!(decide(&set, &["a:1"]).await, [failed(words)]);
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_over_already_is_not_waited_for() {
    let set = set_with(&filter("", "(call $block (call $after (i64.const 0)))"));
    assert_eq!(decide(&set, &["a:1"]).await, [cached("a:1")]);
}

/// Each is a loop in which only the host could take long.
#[rstest]
#[case::clock("(loop $more (br_if $more (i64.le_u (call $now) (i64.const 1000000000))))")]
#[case::poll(
    "(i32.store (i32.const 512) (call $after (i64.const 0))) \
     (loop $more (global.set $heap (i32.const 4096)) (call $poll (i32.const 512) (i32.const 1) (i32.const 256)) (br $more))"
)]
#[case::random(
    "(loop $more (global.set $heap (i32.const 4096)) (call $random_bytes (i64.const 65536) (i32.const 256)) (br $more))"
)]
#[case::printing(
    "(loop $more (call $write (call $stderr) (i32.const 0) (i32.const 60000) (i32.const 256)) (br $more))"
)]
#[case::handles("(loop $more (call $drop_pollable (call $after (i64.const 0))) (br $more))")]
#[tokio::test]
async fn a_loop_of_calls_ends_with_the_time(#[case] body: &str) {
    let set = set_with(&filter("", body));
    let began = Instant::now();
    let [verdict] = decide(&set, &["a:1"]).await.try_into().unwrap();
    let [warning] = verdict.warnings.as_slice() else { panic!("{verdict:?}") };
    // Those that print get a handle each time, of which there are only so many.
    assert!(warning == "policy guest took longer than 200ms" || warning.contains("broke the contract"), "{warning}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn handles_are_limited() {
    let set = set_with(&filter("", "(loop $more (drop (call $after (i64.const 0))) (br $more))"));
    let [verdict] = decide(&set, &["a:1"]).await.try_into().unwrap();
    assert!(verdict.warnings[0].starts_with("policy guest broke the contract: "), "{verdict:?}");
}

#[tokio::test]
async fn chance_takes_the_same_course_each_time() {
    // The reason is a letter for each of eight bits.
    let body = "(i32.store8 (i32.const 64) (i32.const 2)) (i32.store (i32.const 68) (i32.const 512)) \
                (i32.store (i32.const 72) (i32.const 8)) (i64.store (i32.const 512) (i64.or \
                (i64.and (call $random) (i64.const 0x0707070707070707)) (i64.const 0x6060606060606060)))";
    let engine = engine();
    let set = set_of(&engine, vec![policy(&engine, "guest", &filter("", body))]);
    let first = decide(&set, &["a:1"]).await;
    assert_ne!(first, [cached("a:1")]);
    assert_eq!(decide(&set, &["a:1"]).await, first);
}

#[tokio::test]
async fn an_ocean_of_chance_is_refused() {
    let set = set_with(&filter("", "(call $random_bytes (i64.const 0x7fffffffffffffff) (i32.const 256))"));
    let words = "policy guest asked for 9223372036854775807 random bytes at once";
    assert_eq!(decide(&set, &["a:1"]).await, [failed(words)]);
}

/// As Rust's standard library prints a panic: in pieces, and with a hint at the end.
#[tokio::test]
async fn what_is_on_standard_error_is_the_reason_of_a_trap() {
    let text = "thread 'main' panicked at src/lib.rs:7:5:\\0aboom\\0anote: run with `RUST_BACKTRACE=1` environment";
    let length = text.len() - 2 * "\\0a".len() + 2;
    let data = format!("(data (i32.const 1024) \"{text}\")");
    let body = format!("{} {} unreachable", print("stderr", 1024, 20), print("stderr", 1044, length - 20));
    let words = "policy guest panicked: thread 'main' panicked at src/lib.rs:7:5: boom";
    assert_eq!(decide(&set_with(&filter(&data, &body)), &["a:1"]).await, [failed(words)]);
}

/// By the answer, and not when its instance is wiped: nothing runs on this runtime any more by then.
#[test]
fn a_line_without_an_end_is_said_when_the_policy_has_answered() {
    let set = set_with(&filter("(data (i32.const 1024) \"denied\")", &print("stdout", 1024, 6)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The first takes long, and goes on in the slow lane.
    for _ in 0..20 {
        let (log, verdicts) = logged_while(|| runtime.block_on(decide(&set, &["a:1"])));
        assert_eq!(verdicts, [cached("a:1")]);
        assert!(log.contains(r#"policy="guest" said="denied""#), "{log}");
    }
}

#[tokio::test]
async fn a_guest_that_ends_itself_has_failed() {
    let data = "(data (i32.const 1024) \"no such namespace\")";
    let body = format!("{} (call $exit (i32.const 1))", print("stderr", 1024, 17));
    let words = "policy guest ended itself with status 1: no such namespace";
    assert_eq!(decide(&set_with(&filter(data, &body)), &["a:1"]).await, [failed(words)]);
}
