//! `make cluster`: a Kubernetes cluster of two nodes on this machine, to look around in.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use cache_registry_bed::cluster::{BUSYBOX, Cluster, Options};
use cache_registry_bed::interrupted;
use clap::Parser;
use clap::builder::FalseyValueParser;

/// Brings up a Kubernetes cluster of two nodes and an upstream registry, and takes them away again on Ctrl-C.
#[derive(Debug, Parser)]
struct Args {
    /// Leave everything running, and print how to stop it
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = up(Args::parse().keep) => outcome,
        // The cluster goes with the future above, and waits until all is gone.
        signal = interrupted() => signal,
    };
    match outcome.or_else(|error| say(&format!("\n{error:#}\n\ncluster: FAILED")).and(Err(error))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

async fn up(keep: bool) -> Result<()> {
    let started = Instant::now();
    let cluster = Cluster::start(Options::default()).await?;
    say(&cluster.kubectl(&["get", "nodes", "-o", "wide"]).await?)?;
    say(&format!("two nodes are ready after {:.1} s", started.elapsed().as_secs_f32()))?;
    say(&how_to_look_around(&cluster))?;
    if keep {
        let guardian = cluster.keep()?;
        return say(&format!("    kill {guardian}    # stops all of it and takes it away\n"));
    }
    say("Ctrl-C stops all of it and takes it away.")?;
    std::future::pending().await
}

/// Commands for a person.
fn how_to_look_around(cluster: &Cluster) -> String {
    let (folder, programs) = (cluster.folder().display(), cluster.programs());
    let (kubeconfig, programs) = (cluster.control_plane.kubeconfig(), programs.display());
    let (kubeconfig, socket) = (kubeconfig.display(), cluster.b.images.socket().display());
    let (namespace, upstream) = (cluster.b.namespace().path(), cluster.upstream.control_url());
    format!(
        "
    export KUBECONFIG={kubeconfig} PATH={programs}:$PATH
    kubectl get pods -A -o wide
    kubectl run web --image={BUSYBOX} --port=8080 -- sh -c 'hostname >index.html; exec httpd -f -p 8080'
    kubectl expose pod web --port=80 --target-port=8080
    kubectl run -it --rm look --image={BUSYBOX} -- sh    # wget -S -O- http://web; ps

    # What node b has, and its network:
    ctr --address {socket} --namespace k8s.io images list
    nsenter --net={namespace} iptables -t nat -L KUBE-SERVICES

    # The nodes' images come from the upstream, whatever the registry is called; /off stops it:
    curl {upstream}/state
    tail -F {folder}/*.log
"
    )
}

fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}
