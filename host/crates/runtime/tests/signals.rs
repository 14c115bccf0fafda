//! `Shutdown::on_signals`, on a child of this program: the first signal begins shutdown, the second ends the process.

use std::future::pending;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use cache_registry_runtime::Shutdown;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

const CHILD: &str = "SIGNALS_TEST_CHILD";
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() {
    if let Ok(end) = std::env::var(CHILD) {
        child(end == "drains").await;
        return;
    }
    ends_by_itself_after_the_first_signal().await;
    ends_at_once_with("TERM", 143).await;
    ends_at_once_with("INT", 130).await;
}

async fn child(drains: bool) {
    let shutdown = Shutdown::on_signals().expect("signals can be listened to");
    for line in ["listening", "begun"] {
        writeln!(std::io::stdout(), "{line}").expect("the parent reads");
        shutdown.wait().await;
    }
    if !drains {
        pending::<()>().await;
    }
}

async fn ends_by_itself_after_the_first_signal() {
    let (mut child, mut lines) = start("drains").await;
    send("TERM", &child).await;
    expect(&mut lines, "begun").await;
    assert_eq!(status(&mut child).await, Some(0));
}

async fn ends_at_once_with(signal: &str, code: i32) {
    let (mut child, mut lines) = start("hangs").await;
    send(signal, &child).await;
    expect(&mut lines, "begun").await;
    assert!(child.try_wait().expect("a child has a status").is_none(), "one signal is no reason to end");
    send(signal, &child).await;
    assert_eq!(status(&mut child).await, Some(code));
}

async fn start(end: &str) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .env(CHILD, end)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("this program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    expect(&mut lines, "listening").await;
    (child, lines)
}

async fn expect(lines: &mut Lines<BufReader<ChildStdout>>, line: &str) {
    let next = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("a line");
    assert_eq!(next.as_deref(), Some(line));
}

async fn send(signal: &str, child: &Child) {
    let id = child.id().expect("it runs").to_string();
    let sent = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", signal, &id]).status().await;
    assert!(sent.expect("a shell runs").success());
}

async fn status(child: &mut Child) -> Option<i32> {
    timeout(PATIENCE, child.wait()).await.expect("in time").expect("a status").code()
}
