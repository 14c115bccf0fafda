#![allow(clippy::doc_markdown, reason = "these comments are what --help prints, where backticks are noise")]

mod telemetry;

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cache_registry_authoring::{PolicyHost, time};
use cache_registry_core::{NodeAddress, PlatformChoice, parse_bytes, parse_duration};
use cache_registry_status::Output;
use clap::{Args as ClapArgs, Parser, Subcommand};
use url::Url;

pub(crate) use telemetry::Telemetry;

/// Keeps a Kubernetes cluster starting pods when the upstream registry can't.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Answers admission reviews of pods: policies decide, a JSON patch is the answer
    Webhook(Webhook),
    /// Makes CachedImages for the images that pods use, and copies them into the registry; one replica leads
    Controllers(Controllers),
    /// Serves /v2/ to the node it runs on: the cache first, upstream when the cache can't
    Proxy(Proxy),
    /// Collects the registry's garbage: stops it, has a Job remove what nothing needs, and puts it back
    Gc(Gc),
    /// What the containers of that Job do, on the registry's volume
    #[command(subcommand, hide = true)]
    Volume(Volume),
    /// Helps to write policies, without a cluster: checks, tries and measures them, makes ConfigMaps of them
    #[command(subcommand)]
    Policy(cache_registry_authoring::Command),
    /// Shows how the cache stands: images, pulls, upstreams, what expires next; for whoever has a kubeconfig
    Status(Status),
    /// Prints the CustomResourceDefinitions, for kubectl apply
    Crds,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Webhook {
    /// Address for admission reviews, over TLS
    #[arg(long, env = "CACHE_REGISTRY_LISTEN", default_value = "[::]:9443")]
    pub(crate) listen: SocketAddr,
    /// Certificate chain, PEM; a changed file is served within seconds
    #[arg(long, env = "CACHE_REGISTRY_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: PathBuf,
    /// Private key of the certificate, PEM
    #[arg(long, env = "CACHE_REGISTRY_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: PathBuf,
    /// Namespace of the release: the ConfigMaps of policies are here, their pull secrets and their Events
    #[arg(long, env = "CACHE_REGISTRY_NAMESPACE", default_value = "cache-registry-system")]
    pub(crate) namespace: String,
    /// Name of this replica, for Events: the pod's name
    #[arg(long, env = "CACHE_REGISTRY_IDENTITY", value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// How often it is looked at what the tags of policies' images name: 30s, 5m
    #[arg(long, env = "CACHE_REGISTRY_POLICY_IMAGE_INTERVAL", value_name = "TIME", default_value = "5m", value_parser = time)]
    pub(crate) policy_image_interval: Duration,
    /// Leaves pods alone that have pull secrets, whatever policies say: for controllers that do not read these
    #[arg(long, env = "CACHE_REGISTRY_LEAVE_ALONE_PULL_SECRETS")]
    pub(crate) leave_alone_pull_secrets: bool,
    #[command(flatten)]
    pub(crate) policies: PolicyHost,
    #[command(flatten)]
    pub(crate) registries: RegistriesFile,
    #[command(flatten)]
    pub(crate) node: Node,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Controllers {
    /// Namespace of the release: its Lease and Events are here
    #[arg(long, env = "CACHE_REGISTRY_NAMESPACE", default_value = "cache-registry-system")]
    pub(crate) namespace: String,
    /// Name of this replica, for the Lease and Events: the pod's name
    #[arg(long, env = "CACHE_REGISTRY_IDENTITY", value_name = "NAME", default_value = "cache-registry-controllers")]
    pub(crate) identity: String,
    /// The registry inside the cluster, into which images are copied
    #[arg(long, env = "CACHE_REGISTRY_REGISTRY", value_name = "URL", value_parser = registry_url)]
    pub(crate) registry: Url,
    /// The Secret in the release's namespace that holds the registry's credentials, and is filled in where it holds
    /// none; without it, the registry is spoken to without credentials
    #[arg(long, env = "CACHE_REGISTRY_REGISTRY_CREDENTIALS_SECRET", value_name = "NAME")]
    pub(crate) registry_credentials_secret: Option<String>,
    /// The StatefulSet of that registry, which a garbage collection stops: put back after one that was cut, and not
    /// written to during one; without it, none is expected
    #[arg(long, env = "CACHE_REGISTRY_REGISTRY_STATEFUL_SET", value_name = "NAME")]
    pub(crate) registry_stateful_set: Option<String>,
    /// How many images are copied at once
    #[arg(long, env = "CACHE_REGISTRY_PARALLEL_COPIES", default_value = "3", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) parallel_copies: u16,
    /// How long an image stays in the registry that nothing uses: 30d, 12h; 0s removes it at once
    #[arg(long, env = "CACHE_REGISTRY_EXPIRY_DELAY", value_name = "TIME", default_value = "30d", value_parser = parse_duration)]
    pub(crate) expiry_delay: Duration,
    /// How often upstream is asked whether it has moved a tag: 1h, 10m; 0s for never
    #[arg(long, env = "CACHE_REGISTRY_UPDATE_INTERVAL", value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    pub(crate) update_interval: Duration,
    /// How much the registry may hold: 50Gi, 2Ti. Above it, images that nothing uses go before their time, the ones that
    /// were used longest ago first; layers that images share count for each. Without, it may hold any amount
    #[arg(long, env = "CACHE_REGISTRY_MAX_SIZE", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) max_size: Option<u64>,
    /// Of which platforms images are copied: auto for those of the cluster's nodes, all, or a list such as
    /// linux/amd64,linux/arm64
    #[arg(long, env = "CACHE_REGISTRY_PLATFORMS", value_name = "PLATFORMS", default_value = "auto", value_parser = PlatformChoice::from_str)]
    pub(crate) platforms: PlatformChoice,
    /// Whether signatures, attestations and SBOMs of an image are copied with it: true, false
    #[arg(long, env = "CACHE_REGISTRY_REFERRERS", value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) referrers: bool,
    /// Reads the pull secrets of pods, in any namespace, and copies in their name; without it, only what everybody may
    /// pull is copied
    #[arg(long, env = "CACHE_REGISTRY_PULL_SECRETS")]
    pub(crate) pull_secrets: bool,
    /// Address at which proxies get tokens to pull with, plain HTTP, for the password with which they read the registry
    #[arg(
        long,
        env = "CACHE_REGISTRY_PULL_TOKENS_LISTEN",
        value_name = "ADDRESS",
        requires_all = ["pull_secrets", "registry_credentials_secret"]
    )]
    pub(crate) pull_tokens_listen: Option<SocketAddr>,
    /// Removes the manifests that no tag reaches any more from the registry, this long after they lost theirs: for a
    /// registry whose storage no garbage collection can look into. Without it, they are kept
    #[arg(long, env = "CACHE_REGISTRY_REMOVE_UNTAGGED_AFTER", value_name = "TIME", value_parser = time)]
    pub(crate) remove_untagged_after: Option<Duration>,
    #[command(flatten)]
    pub(crate) webhook_certificate: WebhookCertificate,
    #[command(flatten)]
    pub(crate) registries: RegistriesFile,
    #[command(flatten)]
    pub(crate) node: Node,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Gc {
    /// Namespace of the release
    #[arg(long, env = "CACHE_REGISTRY_NAMESPACE", default_value = "cache-registry-system")]
    pub(crate) namespace: String,
    /// Name of this run, for the Lease and Events: the pod's name
    #[arg(long, env = "CACHE_REGISTRY_IDENTITY", value_name = "NAME", default_value = "cache-registry-gc")]
    pub(crate) identity: String,
    /// The registry's StatefulSet; the Lease of the runs and the Job are called as it is, with -gc
    #[arg(long, env = "CACHE_REGISTRY_REGISTRY_STATEFUL_SET", value_name = "NAME")]
    pub(crate) registry_stateful_set: String,
    /// The Job that removes, YAML; the chart makes it
    #[arg(long, env = "CACHE_REGISTRY_JOB", value_name = "FILE")]
    pub(crate) job: PathBuf,
    /// For how long the Job may run: 30m, 2h; the registry is put back then
    #[arg(long, env = "CACHE_REGISTRY_DEADLINE", value_name = "TIME", default_value = "1h", value_parser = time)]
    pub(crate) deadline: Duration,
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// Counts the blobs and the bytes
    Measure {
        /// The registry's root directory
        folder: PathBuf,
        /// The file that gets the numbers, JSON
        report: PathBuf,
    },
    /// Makes the folders that a garbage collection fails without, on a volume that was never written to
    Prepare {
        /// The registry's root directory
        folder: PathBuf,
    },
    /// Removes the manifests that no tag reaches
    RemoveUntagged {
        /// The registry's root directory
        folder: PathBuf,
        /// Younger ones stay, for their tag may be still to come
        #[arg(value_parser = time)]
        older_than: Duration,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Status {
    /// Namespace of the release
    #[arg(long, env = "CACHE_REGISTRY_NAMESPACE", default_value = "cache-registry-system")]
    pub(crate) namespace: String,
    /// How it is written
    #[arg(long, env = "CACHE_REGISTRY_OUTPUT", value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// The webhook's certificate, where the controllers make it.
#[derive(Debug, ClapArgs)]
pub(crate) struct WebhookCertificate {
    /// Secret into which the webhook's certificate is put, and renewed; it has to exist. Without, none is made
    #[arg(
        long = "webhook-certificate-secret",
        env = "CACHE_REGISTRY_WEBHOOK_CERTIFICATE_SECRET",
        value_name = "NAME",
        requires_all = ["service", "configuration"]
    )]
    pub(crate) secret: Option<String>,
    /// The webhook's Service, by whose name the API server calls it
    #[arg(long = "webhook-service", env = "CACHE_REGISTRY_WEBHOOK_SERVICE", value_name = "NAME", requires = "secret")]
    pub(crate) service: Option<String>,
    /// MutatingWebhookConfiguration whose caBundle is kept
    #[arg(
        long = "webhook-configuration",
        env = "CACHE_REGISTRY_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        requires = "secret"
    )]
    pub(crate) configuration: Option<String>,
    /// How long the certificate is valid: 90d, 24h; it is renewed when two thirds of that are over
    #[arg(
        long = "webhook-certificate-life",
        env = "CACHE_REGISTRY_WEBHOOK_CERTIFICATE_LIFE",
        value_name = "TIME",
        default_value = "90d",
        value_parser = time
    )]
    pub(crate) life: Duration,
}

impl WebhookCertificate {
    /// What is wanted; `None` where no certificate is to be made.
    pub(crate) fn wanted(self) -> Option<cache_registry_controllers::WebhookCertificate> {
        let Self { secret, service, configuration, life } = self;
        let (secret, service, configuration) = (secret?, service?, configuration?);
        Some(cache_registry_controllers::WebhookCertificate { secret, service, configuration, life })
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Proxy {
    /// Addresses for pulls; give it for IPv4 and for IPv6, because `localhost` is either
    #[arg(
        long,
        env = "CACHE_REGISTRY_LISTEN",
        value_delimiter = ',',
        default_values = ["127.0.0.1:7439", "[::1]:7439"]
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Lets the proxy that takes over listen on the same ports, the admin port among them, so that an upgrade leaves no
    /// gap
    #[arg(long, env = "CACHE_REGISTRY_SHARE_PORTS")]
    pub(crate) share_ports: bool,
    /// The registry inside the cluster, which is asked first
    #[arg(long, env = "CACHE_REGISTRY_CACHE", value_name = "URL", value_parser = registry_url)]
    pub(crate) cache: Url,
    /// A file with the credentials for it, one line, user:password; a changed or new file is used within seconds, and
    /// without one it is asked without credentials
    #[arg(long, env = "CACHE_REGISTRY_CACHE_CREDENTIALS", value_name = "FILE")]
    pub(crate) cache_credentials: Option<PathBuf>,
    /// The controllers, which give tokens for upstreams that do not let everybody in, to who shows these credentials
    #[arg(
        long,
        env = "CACHE_REGISTRY_PULL_TOKENS",
        value_name = "URL",
        value_parser = controllers_url,
        requires = "cache_credentials"
    )]
    pub(crate) pull_tokens: Option<Url>,
    #[command(flatten)]
    pub(crate) registries: RegistriesFile,
    #[command(flatten)]
    pub(crate) node: Node,
    #[command(flatten)]
    pub(crate) admin: Admin,
}

/// What the references of rewritten images begin with.
#[derive(Debug, ClapArgs)]
pub(crate) struct Node {
    /// What rewritten references begin with: where each node's proxy listens
    #[arg(long, env = "CACHE_REGISTRY_NODE_ADDRESS", default_value = "localhost:7439", value_parser = NodeAddress::new)]
    pub(crate) node_address: NodeAddress,
}

/// How registries are reached.
#[derive(Debug, ClapArgs)]
pub(crate) struct RegistriesFile {
    /// How registries are reached: endpoints, mirrors, CAs; see docs/registries.md
    #[arg(long = "registries", env = "CACHE_REGISTRY_REGISTRIES", value_name = "FILE")]
    pub(crate) path: Option<PathBuf>,
}

/// What every role has beside its work.
#[derive(Debug, ClapArgs)]
pub(crate) struct Admin {
    /// Address of /live, /ready and /metrics, plain HTTP
    #[arg(long, env = "CACHE_REGISTRY_ADMIN_LISTEN", default_value = "0.0.0.0:8080")]
    pub(crate) admin_listen: SocketAddr,
    #[command(flatten)]
    pub(crate) telemetry: Telemetry,
}

/// The URL of a registry. What is not one must not wait for the first pull to show: there it would be a cache that never
/// answers, and every pull would go upstream.
fn registry_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| "expected http or https, and a host: http://registry.example:5000".to_owned())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("credentials do not belong into the URL, which shows up in logs".to_owned());
    }
    Ok(url)
}

/// The URL of the controllers, in plain HTTP. The variables for Services have addresses of IPv6 without brackets.
fn controllers_url(text: &str) -> Result<Url, String> {
    let bracketed = text.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':')).and_then(|(host, port)| {
        let is_bare = host.parse::<Ipv6Addr>().is_ok();
        is_bare.then(|| format!("http://[{host}]:{port}"))
    });
    match registry_url(bracketed.as_deref().unwrap_or(text)) {
        Ok(url) if url.scheme() == "http" => Ok(url),
        Ok(_) => Err("expected http: the controllers answer without TLS".to_owned()),
        Err(problem) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_registry_is_a_url_without_credentials() {
        assert_eq!(registry_url("http://registry:5000").unwrap().as_str(), "http://registry:5000/");
        for bad in ["registry:5000", "ftp://registry", "http://", "", "/registry"] {
            assert!(registry_url(bad).unwrap_err().starts_with("expected http or https"), "{bad}");
        }
        assert!(registry_url("http://user:word@registry:5000").unwrap_err().contains("credentials"));
    }

    #[test]
    fn the_controllers_may_be_at_any_address_of_a_service() {
        for (given, url) in [
            ("http://10.96.0.1:8082", "http://10.96.0.1:8082/"),
            ("http://fd00::10:8082", "http://[fd00::10]:8082/"),
            ("http://[fd00::10]:8082", "http://[fd00::10]:8082/"),
            ("http://controllers:8082", "http://controllers:8082/"),
        ] {
            assert_eq!(controllers_url(given).unwrap().as_str(), url);
        }
        assert!(controllers_url("https://controllers:8082").unwrap_err().contains("without TLS"));
        assert!(controllers_url("$(NONE_SERVICE_HOST):8082").is_err());
    }

    #[test]
    fn every_flag_of_a_role_has_an_environment_variable() {
        for role in Args::command().get_subcommands() {
            for flag in role.get_arguments().filter(|flag| flag.get_long().is_some_and(|name| name != "help")) {
                assert!(flag.get_env().is_some(), "{} --{}", role.get_name(), flag.get_long().unwrap());
            }
        }
    }

    #[test]
    fn a_proxy_listens_on_both_loopbacks_unless_told_otherwise() {
        let args = Args::try_parse_from(["cache-registry", "proxy", "--cache", "http://cache:5000"]).unwrap();
        let Command::Proxy(proxy) = args.command else { panic!("not the proxy") };
        let listen: Vec<String> = proxy.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:7439", "[::1]:7439"]);
    }
}
