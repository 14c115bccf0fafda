use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use cache_registry_guests::{component, filter};
use serde_json::Value;

use crate::load::Load;
use crate::paced::{Answered, Paced, Stop, quantile};
use crate::review::{is_patched, review};
use crate::row::{Better, Row, median, median_ratio};
use crate::webhook::Webhooks;

const ROUNDS: usize = 3;
const TIME: Duration = Duration::from_secs(2);
const PER_SECOND: u32 = 500;
/// As a multiple of what it is alone.
const MOST: f64 = 2.0;

/// A repository that no other image of the review is as long as: by its length the guests know it.
const REPOSITORY: &str = "hostile-hostile-hostile-hostile-hostile";

/// Bytes that are filled again and again.
macro_rules! filled {
    () => {
        "31000000"
    };
}

/// What a guest does when it is asked about [`REPOSITORY`].
const BEHAVIOURS: [(&str, &str); 7] = [
    ("loops", "(loop $forever (br $forever))"),
    ("takes memory", "(loop $more (drop (memory.grow (i32.const 16))) (br $more))"),
    (
        "fills its memory again and again",
        concat!(
            "(drop (memory.grow (i32.const 480))) (loop $more (memory.fill (i32.const 65536) (i32.const 1) (i32.const ",
            filled!(),
            ")) (br $more))"
        ),
    ),
    ("traps", "unreachable"),
    ("floods the log", "(loop $more (call $log (i32.const 3) (i32.const 0) (i32.const 4096)) (br $more))"),
    ("asks for the pod in a loop", "(loop $more (call $json (local.get $pod) (i32.const 64)) (br $more))"),
    (
        "answers with megabytes",
        "(drop (memory.grow (i32.const 300))) (i32.store8 (i32.const 64) (i32.const 2)) \
         (i32.store (i32.const 68) (i32.const 65536)) (i32.store (i32.const 72) (i32.const 16777216))",
    ),
];

/// Reviews of which a policy answers as it should, beside reviews at which the same policy misbehaves, one after the
/// other without a pause; and beside the compilation of a component that takes seconds.
pub(crate) async fn measure(folder: &Path, webhooks: &Webhooks) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (what, body) in BEHAVIOURS {
        let when = REPOSITORY.len() + "library/".len();
        let guest = filter(&format!("(if (i32.eq (local.get 8) (i32.const {when})) (then {body}))"));
        let guest = written(folder, "guest.wasm", &guest)?;
        let part =
            webhooks.start("webhook-hostile", &["--decide", "wasm", "--guest", &guest.to_string_lossy()]).await?;
        let good = webhooks.load(&part, review())?;
        let bad = Load { connections: 1, is_right: is_warned, ..webhooks.load(&part, hostile_review()?)? };
        let rounds = async {
            let (mut quiet, mut beside) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                quiet.push(p99(&paced(&good).await?)?);
                let stop = Arc::new(AtomicBool::new(false));
                let endless = Paced { load: bad.clone(), per_second: 1000, stop: Stop::When(Arc::clone(&stop)) };
                let hostile = tokio::spawn(async move { endless.run(|body| is_warned(body).then_some(())).await });
                let answered = paced(&good).await;
                stop.store(true, Ordering::Relaxed);
                let hostile = hostile.await??;
                if hostile.is_empty() || hostile.iter().any(|answered| answered.read.is_none()) {
                    bail!("the policy that {what} was not told of in a warning");
                }
                beside.push(p99(&answered?)?);
            }
            anyhow::Ok((quiet, beside))
        };
        let (quiet, beside) = rounds.await.with_context(|| part.log())?;
        rows.push(row(&format!("beside one that {what}"), &quiet, &beside).target(MOST));
    }

    let part = webhooks.start("webhook-beside-filling", &["--decide", "wasm"]).await?;
    let good = webhooks.load(&part, review())?;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(p99(&paced(&good).await?)?);
        let _neighbour = webhooks.start_part("neighbour", &["fill", "--bytes", filled!()]).await?;
        beside.push(p99(&paced(&good).await?)?);
    }
    let neighbour = "beside another program that fills as much whenever no one else runs";
    rows.push(row(neighbour, &quiet, &beside));

    let slow = written(folder, "slow.wasm", &slow_to_compile())?;
    let start = async |arguments: &[&str]| webhooks.start("webhook-compiling", arguments).await;
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let part = start(&["--decide", "wasm"]).await?;
        quiet.push(p99(&paced(&webhooks.load(&part, review())?).await?)?);
        drop(part);
        let part = start(&["--decide", "wasm", "--compile", &slow.to_string_lossy()]).await?;
        beside.push(p99(&paced(&webhooks.load(&part, review())?).await?)?);
        if part.log().contains("compiling ended") {
            bail!("{}", part.log());
        }
    }
    rows.push(row("while a component is compiled that takes seconds", &quiet, &beside).target(MOST));
    Ok(rows)
}

fn row(what: &str, quiet: &[f64], beside: &[f64]) -> Row {
    let name =
        format!("review p99 {what}, to alone ({:.2} to {:.2} ms)", median(beside.to_vec()), median(quiet.to_vec()));
    Row::ratio(name, median_ratio(beside, quiet), Better::Lower)
}

async fn paced(load: &Load) -> Result<Vec<Answered<()>>> {
    let paced = Paced { load: load.clone(), per_second: PER_SECOND, stop: Stop::After(TIME) };
    paced.run(|body| is_patched(body).then_some(())).await
}

fn p99(answered: &[Answered<()>]) -> Result<f64> {
    let wrong = answered.iter().filter(|answered| answered.read.is_none()).count();
    if wrong > 0 {
        bail!("{wrong} of {} good reviews got no answer, or a wrong one", answered.len());
    }
    Ok(quantile(answered, 0.99))
}

fn hostile_review() -> Result<Bytes> {
    let text = String::from_utf8(review().to_vec())?;
    Ok(text.replace("redis:7.4-alpine", &format!("{REPOSITORY}:1")).into())
}

fn is_warned(answer: &Bytes) -> bool {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let response = &answer["response"];
    response["allowed"] == true && response["warnings"].as_array().is_some_and(|warnings| !warnings.is_empty())
}

/// A filter that passes, and thousands of functions that nobody calls.
fn slow_to_compile() -> Vec<u8> {
    let mut fields = format!(
        "(func (export \"cache-registry:policy/filter@0.1.0#filter\") (param{}) (result i32) (i32.const 64))",
        " i32".repeat(15)
    );
    for number in 0..4000 {
        fields.push_str("(func (param i32 i32) (result i32) local.get 0");
        for step in 0..120 {
            let _ = write!(fields, " local.get 1 i32.const {} i32.add i32.mul i32.const {step} i32.xor", number + step);
        }
        fields.push(')');
    }
    component(&["filter"], &fields)
}

fn written(folder: &Path, name: &str, wasm: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, wasm)?;
    Ok(path)
}
