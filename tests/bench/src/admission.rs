use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::load::Load;
use crate::machine::{LOAD_CPU, SERVER_CPU};
use crate::part::Part;
use crate::review::review;
use crate::row::{Better, Row, median, median_ratio};
use crate::serve::Who;
use crate::webhook::Webhooks;

const ROUNDS: usize = 7;
const TIME: Duration = Duration::from_millis(1200);
/// Enough to keep the server's one core busy while answers are read.
const CONNECTIONS: usize = 16;

/// What the rounds of one side came to.
#[derive(Default)]
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
    per_second: Vec<f64>,
}

/// An admission review over TLS: the built-in policies in WebAssembly against the same rules in native code, and
/// with one policy more. Each round measures all, one after the other.
pub(crate) async fn measure(webhooks: &Webhooks, example: &Path) -> Result<Vec<Row>> {
    let start = async |name, arguments: &[&str]| {
        let part = webhooks.start(name, &[arguments, &["--on-one-thread"]].concat()).await?;
        part.pin(&[SERVER_CPU])?;
        anyhow::Ok(part)
    };
    let wasm = ["--decide", Who::Wasm.as_str()];
    let parts = [
        start("webhook-wasm", &wasm).await?,
        start("webhook-native", &["--decide", Who::Native.as_str()]).await?,
        start("webhook-native-on-blocking-thread", &["--decide", Who::NativeOnBlockingThread.as_str()]).await?,
        start("webhook-three-policies", &[&wasm[..], &["--guest", &example.to_string_lossy()]].concat()).await?,
    ];
    let load = |part: &Part, connections| -> Result<Load> {
        Ok(Load { connections, time: TIME, ..webhooks.load(part, review())? })
    };

    let mut sides = [Side::default(), Side::default(), Side::default(), Side::default()];
    for round in 0..=ROUNDS {
        for (part, side) in parts.iter().zip(&mut sides) {
            let alone = load(part, 1)?.run(&[LOAD_CPU]).await.with_context(|| part.log())?;
            let together = load(part, CONNECTIONS)?.run(&[LOAD_CPU]).await.with_context(|| part.log())?;
            // The first round warms up.
            if round > 0 {
                side.p50.push(alone.quantile(0.5));
                side.p99.push(alone.quantile(0.99));
                side.per_second.push(together.per_second());
            }
        }
    }
    let [wasm, native, on_blocking_thread, three] = sides;
    let mut rows = Vec::new();
    for (name, of) in [("p50", (|side| &side.p50) as fn(&Side) -> &Vec<f64>), ("p99", |side| &side.p99)] {
        let [wasm, native, on_blocking_thread] = [of(&wasm), of(&native), of(&on_blocking_thread)];
        let (ratio, thread) = (median_ratio(wasm, native), median_ratio(on_blocking_thread, native));
        let three = of(&three);
        rows.extend([
            Row::new(format!("review {name}"), median(wasm.clone()), "µs", Better::Lower)
                .against(median(native.clone())),
            Row::ratio(format!("review {name}, Wasm to native"), ratio, Better::Lower).target(1.25),
            Row::ratio(format!("review {name}, native on a blocking thread to native"), thread, Better::Lower),
            Row::new(
                format!("review {name}, three policies, two the baseline"),
                median(three.clone()),
                "µs",
                Better::Lower,
            )
            .against(median(wasm.clone())),
            Row::ratio(format!("review {name}, three policies to two"), median_ratio(three, wasm), Better::Lower),
        ]);
    }
    rows.push(
        Row::new("reviews on one core", median(wasm.per_second), "/s", Better::Higher)
            .target(5000.0)
            .against(median(native.per_second)),
    );
    Ok(rows)
}
