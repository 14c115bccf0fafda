use std::fs;
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use axum::Router;
use cache_registry_configmaps::ReloadableSet;
use cache_registry_policy::{Engine, HostFacts};
use cache_registry_proxy::{CacheCredentials, Proxy};
use cache_registry_registry::{Connections, QuotaMetrics, Registries, Timeouts};
use cache_registry_runtime::traces::{Ratio, hand_on};
use cache_registry_runtime::{Admin, LogFormat, Readiness, Sharing, Shutdown, telemetry};
use cache_registry_webhook::{Ground, Server};
use prometheus_client::registry::Registry as Metrics;

use crate::args::{self, Args, Command};

/// Runs what the command line asks for, until it is done or told to end.
#[tokio::main]
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // Fails only when a provider is installed already, and then there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match args.command {
        // Boxed: the state of a role is tens of kilobytes, which every other role's future would have.
        Command::Webhook(args) => {
            told(&args.admin.telemetry.clone(), "webhook", Ratio::FEW, Box::pin(webhook(args))).await
        }
        Command::Controllers(args) => {
            told(&args.admin.telemetry.clone(), "controllers", Ratio::ALL, Box::pin(controllers(args))).await
        }
        Command::Proxy(args) => told(&args.admin.telemetry.clone(), "proxy", Ratio::FEW, Box::pin(proxy(args))).await,
        Command::Gc(args) => told(&args.telemetry.clone(), "gc", Ratio::ALL, Box::pin(gc(args))).await,
        Command::Volume(command) => volume(command),
        Command::Policy(command) => policy(command).await,
        Command::Status(args) => status(args).await,
        Command::Crds => crds(),
    }
}

/// The work of a role, with its logs and traces. `ratio` of these are sent unless it is told how many.
async fn told(
    args: &args::Telemetry,
    role: &'static str,
    ratio: Ratio,
    work: Pin<Box<impl Future<Output = anyhow::Result<()>>>>,
) -> anyhow::Result<()> {
    let telemetry = telemetry::init(args.log_format, args.traces(role, ratio).as_ref())?;
    let done = work.await;
    telemetry.end().await;
    done
}

async fn policy(command: cache_registry_authoring::Command) -> anyhow::Result<()> {
    cache_registry_authoring::log_to_standard_error();
    Ok(command.run(&mut io::stdout().lock(), &mut io::stderr()).await?)
}

async fn webhook(args: args::Webhook) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let readiness = Readiness::new();
    let mut metrics = Metrics::default();

    let release = args.policies.release_settings();
    let engine = Engine::new(
        &args.policies.limits(),
        HostFacts { node_address: args.node.node_address.clone(), own_registries: args.policies.registry_host },
    )?;
    let set = ReloadableSet::built_in(engine, release, &mut metrics).context("a built-in policy")?;
    let connections = Connections::new(read_registries(&args.registries)?, Timeouts::default())?;
    let client = api_server().await.context("finding out how to reach the API server")?;
    let policies_config = cache_registry_configmaps::Config {
        namespace: args.namespace,
        identity: args.identity,
        image_interval: args.policy_image_interval,
    };
    let webhook_metrics = cache_registry_webhook::Metrics::register(&mut metrics);
    let config = cache_registry_webhook::Config::new(args.listen, args.tls_cert, args.tls_key);
    let server = Server::bind(config, webhook_metrics.clone()).await?;
    let ground = Ground { node: args.node.node_address, leaves_pull_secrets_alone: args.leave_alone_pull_secrets };
    let router = cache_registry_webhook::router(Arc::new(set.policies()), ground, webhook_metrics);
    let ready = readiness.hold("the policies of ConfigMaps");

    serve_admin(&args.admin, Sharing::Alone, readiness, metrics, &shutdown, set.status().router())?;
    tracing::info!(address = %server.local_address()?, "answering admission reviews");
    let reloading = async {
        let done = cache_registry_configmaps::run(client, policies_config, set, connections, shutdown.clone(), ready);
        done.await.context("keeping the policies up to date")
    };
    let serving = async { server.serve(router, shutdown.clone()).await.context("serving admission reviews") };
    // The first error ends both: a webhook that hears of no change any more has to be started anew.
    tokio::try_join!(serving, reloading)?;
    Ok(())
}

async fn controllers(args: args::Controllers) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let readiness = Readiness::new();
    let mut metrics = Metrics::default();

    let connections = Connections::new(read_registries(&args.registries)?, Timeouts::default())?;
    connections.set_cache_headers(hand_on);
    let client = api_server().await.context("finding out how to reach the API server")?;
    let config = cache_registry_controllers::Config {
        namespace: args.namespace,
        identity: args.identity,
        node_address: args.node.node_address,
        registry: args.registry,
        registry_credentials_secret: args.registry_credentials_secret,
        registry_stateful_set: args.registry_stateful_set,
        parallel_copies: args.parallel_copies.into(),
        expiry_delay: args.expiry_delay,
        update_interval: args.update_interval,
        max_size: args.max_size,
        platforms: args.platforms,
        referrers: args.referrers,
        remove_untagged_after: args.remove_untagged_after,
        webhook_certificate: args.webhook_certificate.wanted(),
        pull_secrets: args.pull_secrets,
    };
    let listen = |address| {
        cache_registry_runtime::listen(address, Sharing::Alone)
            .with_context(|| format!("listening on {address} for proxies"))
    };
    let pull_tokens = args.pull_tokens_listen.map(listen).transpose()?;
    let controllers_metrics = cache_registry_controllers::Metrics::register(&mut metrics);
    metrics.register_collector(Box::new(QuotaMetrics(connections.clone())));

    serve_admin(&args.admin, Sharing::Alone, readiness.clone(), metrics, &shutdown, Router::new())?;
    let running = cache_registry_controllers::run(
        client,
        config,
        connections,
        pull_tokens,
        shutdown,
        readiness,
        controllers_metrics,
    );
    // Boxed: its state is most of the role's.
    Ok(Box::pin(running).await?)
}

async fn proxy(args: args::Proxy) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let mut metrics = Metrics::default();

    let mut config = cache_registry_proxy::Config::new(args.cache, args.node.node_address);
    config.pull_tokens = args.pull_tokens;
    let connections = Connections::new(read_registries(&args.registries)?, config.timeouts())?;
    connections.set_cache_headers(hand_on);
    if let Some(file) = args.cache_credentials {
        tokio::spawn(CacheCredentials::open(file, connections.clone()).await.follow());
    }
    metrics.register_collector(Box::new(QuotaMetrics(connections.clone())));
    let proxy = Proxy::new(config, connections, cache_registry_proxy::Metrics::register(&mut metrics));
    let sharing = if args.share_ports { Sharing::WithSuccessor } else { Sharing::Alone };
    let listeners = cache_registry_proxy::listen(&args.listen, sharing)?;

    serve_admin(&args.admin, sharing, Readiness::new(), metrics, &shutdown, Router::new())?;
    tracing::info!("answering pulls");
    cache_registry_proxy::serve(listeners, cache_registry_proxy::router(Arc::new(proxy)), shutdown).await;
    Ok(())
}

async fn gc(args: args::Gc) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let client = api_server().await.context("finding out how to reach the API server")?;
    let config = cache_registry_controllers::CollectionConfig {
        namespace: args.namespace,
        identity: args.identity,
        stateful_set: args.registry_stateful_set,
        job: args.job,
        deadline: args.deadline,
    };
    // Boxed, as the controllers are above.
    Box::pin(cache_registry_controllers::collect(client, config, shutdown)).await?;
    Ok(())
}

/// What the containers of a garbage collection's Job do beside the registry's own.
fn volume(command: args::Volume) -> anyhow::Result<()> {
    let _logs_alone = telemetry::init(LogFormat::Text, None)?;
    match command {
        args::Volume::Measure { folder, report } => {
            let size = cache_registry_volume::measure(&folder)?;
            tracing::info!(blobs = size.blobs, bytes = size.bytes, "on the volume");
            let text = serde_json::to_string(&size)?;
            fs::write(&report, text).with_context(|| format!("writing {}", report.display()))
        }
        args::Volume::Prepare { folder } => Ok(cache_registry_volume::prepare(&folder)?),
        args::Volume::RemoveUntagged { folder, older_than } => {
            let before = SystemTime::now().checked_sub(older_than).context("that is before there was time")?;
            let removed = cache_registry_volume::remove_untagged(&folder, before)?;
            let (manifests, left_alone) = (removed.manifests, removed.left_alone);
            tracing::info!(manifests, left_alone, "manifests that no tag reaches are removed");
            Ok(())
        }
    }
}

async fn status(args: args::Status) -> anyhow::Result<()> {
    let client = api_server().await.context("finding out how to reach the API server")?;
    let mut out = io::stdout().lock();
    Ok(cache_registry_status::status(&client, &args.namespace, args.output, &mut out).await?)
}

fn crds() -> anyhow::Result<()> {
    io::stdout().write_all(cache_registry_api::crds().as_bytes()).context("writing to standard output")
}

fn read_registries(file: &args::RegistriesFile) -> anyhow::Result<Registries> {
    match &file.path {
        Some(path) => Ok(Registries::read(path)?),
        None => Ok(Registries::default()),
    }
}

/// A client for the API server: from KUBECONFIG, or from the pod's service account.
async fn api_server() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(Duration::from_secs(10));
    // Longer than a watch stays silent: the API server ends each one within 290 s.
    config.read_timeout = Some(Duration::from_mins(5));
    Ok(kube::Client::try_from(config)?)
}

/// Takes the admin port, and answers on it for as long as the process runs, with the role's own `pages` beside.
fn serve_admin(
    args: &args::Admin,
    sharing: Sharing,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: &Shutdown,
    pages: Router,
) -> anyhow::Result<()> {
    let admin = Admin::bind(args.admin_listen, sharing, readiness, metrics)
        .with_context(|| format!("listening on {} for probes and metrics", args.admin_listen))?;
    tokio::spawn(admin.with(pages).serve(shutdown.clone()));
    Ok(())
}
