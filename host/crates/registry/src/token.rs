use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use moka::Expiry;
use moka::future::Cache;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::asked::Leg;
use crate::challenge::Challenge;
use crate::credentials::Secret;
use crate::exchange::{Ask, Endpoint, Payload};
use crate::pull_token::{HandedOn, PullToken};
use crate::{Credentials, Error};

/// Tokens of registries' token services, each kept until shortly before it runs out and fetched once however many ask
/// for it (<https://distribution.github.io/distribution/spec/auth/token/>).
///
/// Most are anonymous: for what everybody may read, Docker Hub and others want a token all the same.
#[derive(Clone)]
pub(crate) struct Tokens {
    tokens: Cache<Arc<Grant>, Token>,
    /// What each registry asked for when it last answered 401, so that the next request brings it along.
    asked_for: Cache<Need, Demand>,
}

/// What a registry wants to be shown.
#[derive(Debug, Clone)]
enum Demand {
    Password,
    Token(Arc<Grant>),
}

/// What a token is good for: which registry it is shown to, and in whose name. A registry may name any token service
/// and any scope. It is given no token that was fetched for another registry, or for somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Grant {
    endpoint: Url,
    credentials: Option<Credentials>,
    realm: Url,
    service: Option<String>,
    scope: String,
}

/// Who needs a token, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Need {
    pub(crate) endpoint: Url,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) repository: Arc<str>,
    pub(crate) access: Access,
}

/// What is done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Access {
    Pull,
    Push,
}

#[derive(Clone)]
struct Token {
    /// `Bearer …`, marked as sensitive.
    header: HeaderValue,
    /// How long it is used.
    lasts: Duration,
    until: Instant,
}

/// For tokens that do not say how long they last.
const DEFAULT_LIFE: Duration = Duration::from_mins(1);
/// Not longer, whatever a token says: a registry's clock or keys may change.
const LONGEST_LIFE: Duration = Duration::from_hours(1);
/// A token is not used in its last moments, in which it may run out on the way.
const MARGIN: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: usize = 256 * 1024;

impl Tokens {
    pub(crate) fn new() -> Self {
        Self {
            tokens: Cache::builder().max_capacity(2_000).expire_after(Life).build(),
            asked_for: Cache::builder().max_capacity(2_000).time_to_live(LONGEST_LIFE).build(),
        }
    }

    /// The `Authorization` that a request will need, as far as that is known from earlier ones. The registry inside the
    /// cluster is ours, and is shown its password unasked: a pull would otherwise begin with a refusal, and a blob that
    /// is being sent can't be sent again after one.
    pub(crate) async fn known(&self, endpoint: &Endpoint, need: &Need) -> Option<HeaderValue> {
        if let Some(handed_on) = need.credentials.as_ref().and_then(Credentials::bearer) {
            return Some(handed_on);
        }
        match self.asked_for.get(need).await {
            // A failure here would hide what the registry itself has to say: it is asked without a token.
            Some(Demand::Token(grant)) => self.fetched(endpoint, need, &grant).await.ok(),
            Some(Demand::Password) => need.credentials.as_ref()?.basic(),
            None if endpoint.leg == Leg::Cache => need.credentials.as_ref()?.basic(),
            None => None,
        }
    }

    /// The `Authorization` that meets the challenge of a 401; `None` where it is no other than `refused`, which the
    /// request had brought along.
    pub(crate) async fn obtained(
        &self,
        endpoint: &Endpoint,
        need: &Need,
        challenge: &HeaderMap,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        if need.credentials.as_ref().is_some_and(|credentials| credentials.bearer().is_some()) {
            // It was shown, and there is no other one to be had for it.
            return Ok(None);
        }
        let asked = endpoint.asked(&need.repository, Method::GET, endpoint.url.clone());
        let demand = need.demand(challenge).map_err(|problem| asked.unauthorized(problem))?;
        let header = match &demand {
            Demand::Password => {
                let header = need.credentials.as_ref().map(Credentials::basic);
                let none = match endpoint.leg {
                    Leg::Cache => NO_PASSWORD_OF_CACHE,
                    Leg::Upstream => NO_PASSWORD,
                };
                let header = header.ok_or_else(|| asked.unauthorized(none))?;
                header.ok_or_else(|| asked.unauthorized(IDENTITY_TOKEN_FOR_PASSWORD))?
            }
            Demand::Token(grant) => {
                // Only the token that was refused is thrown away: another request may have brought a new one meanwhile.
                if let Some(refused) = refused
                    && self.tokens.get(grant).await.is_some_and(|token| token.header == *refused)
                {
                    self.tokens.invalidate(grant).await;
                }
                self.fetched(endpoint, need, grant).await?
            }
        };
        // Remembered only now: a password that the token service refuses is not sent to it once more by `known`.
        self.asked_for.insert(need.clone(), demand).await;
        Ok(Some(header).filter(|header| Some(header) != refused))
    }

    /// What of that may be handed on, once a read was answered.
    pub(crate) async fn handed_on(&self, endpoint: &Endpoint, need: &Need) -> Result<HandedOn, Error> {
        match self.asked_for.get(need).await {
            None => Ok(HandedOn::NotNeeded),
            Some(Demand::Password) => Ok(HandedOn::Password),
            Some(Demand::Token(grant)) if !grant.is_to_pull(need) => Ok(HandedOn::TooGood),
            Some(Demand::Token(grant)) => {
                let token = self.fetch_once(endpoint, need, &grant).await?;
                let text = token.header.to_str().unwrap_or_default().trim_start_matches("Bearer ");
                let lasts = token.until.saturating_duration_since(Instant::now());
                Ok(HandedOn::Token(PullToken { text: text.to_owned(), lasts }))
            }
        }
    }

    async fn fetched(&self, endpoint: &Endpoint, need: &Need, grant: &Arc<Grant>) -> Result<HeaderValue, Error> {
        Ok(self.fetch_once(endpoint, need, grant).await?.header)
    }

    async fn fetch_once(&self, endpoint: &Endpoint, need: &Need, grant: &Arc<Grant>) -> Result<Token, Error> {
        if let Some(token) = self.tokens.get(grant).await {
            return Ok(token);
        }
        // Boxed: this is rare, and would make the future of every request larger.
        let fetching = fetch(endpoint, need, grant);
        let token = Box::pin(self.tokens.try_get_with(Arc::clone(grant), fetching)).await;
        token.map_err(|error| Error::clone(&error))
    }
}

const NO_PASSWORD: &str = "it wants a user name and a password, and there are none for it. Only what everybody may read can be fetched; a \
     mirror in the registries file may have it.";
const NO_PASSWORD_OF_CACHE: &str = "it wants a user name and a password, and there are none for it yet. They come from the Secret of the registry's \
     credentials, which the controllers fill in.";
const IDENTITY_TOKEN_FOR_PASSWORD: &str =
    "it wants a user name and a password, and the credentials for it are an identity token. Log in with a password.";

impl Grant {
    /// True where its token lets its holder read this repository and no more, as far as the scope says. The service may
    /// be told of a scope in its address as well.
    fn is_to_pull(&self, need: &Need) -> bool {
        let prefix = need.endpoint.path().trim_matches('/');
        let of_endpoint = format!("{prefix}/{}", need.repository);
        let is_meant = |scope: &str| {
            let repository = scope.strip_prefix("repository:").and_then(|scope| scope.strip_suffix(":pull"));
            repository.is_some_and(|repository| repository == &*need.repository || repository == of_endpoint)
        };
        let in_address = self.realm.query_pairs().filter(|(key, _)| key == "scope");
        is_meant(&self.scope) && in_address.into_iter().all(|(_, scope)| is_meant(&scope))
    }
}

impl Need {
    /// What a 401 asks for. An error says in words why it cannot be met.
    fn demand(&self, challenge: &HeaderMap) -> Result<Demand, String> {
        match Challenge::of(challenge) {
            Some(Challenge::Bearer { realm, service, scope }) => Ok(Demand::Token(Arc::new(Grant {
                endpoint: self.endpoint.clone(),
                credentials: self.credentials.clone(),
                realm: realm_url(&realm)?,
                service,
                scope: scope.unwrap_or_else(|| self.scope()),
            }))),
            Some(Challenge::Basic) => Ok(Demand::Password),
            Some(Challenge::Other(scheme)) => Err(format!("it asks for authentication by {scheme}, not by a token.")),
            None => Err("it answers 401 without saying which authentication it wants.".to_owned()),
        }
    }

    /// The scope to ask for where the challenge names none
    /// (<https://distribution.github.io/distribution/spec/auth/scope/>).
    fn scope(&self) -> String {
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        format!("repository:{}:{actions}", self.repository)
    }
}

fn realm_url(realm: &str) -> Result<Url, String> {
    let shown: String = realm.chars().take(200).collect();
    match Url::parse(realm) {
        Ok(url)
            if matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none() =>
        {
            Ok(url)
        }
        _ => Err(format!("its token service {shown:?} is no http or https URL.")),
    }
}

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

async fn fetch(endpoint: &Endpoint, need: &Need, grant: &Grant) -> Result<Token, Error> {
    let (ask, payload, authorization) = request(endpoint, need, grant);
    let asked = endpoint.asked(&need.repository, ask.method.clone(), ask.url.clone()).of_token_service();
    if endpoint.url.scheme() == "https" && ask.url.scheme() == "http" {
        if grant.credentials.is_some() {
            return Err(asked.unauthorized(
                "its token service would be sent the credentials without TLS, though the registry is not.",
            ));
        }
        if !endpoint.reach.is_named(&ask.url) {
            return Err(asked.unauthorized(
                "its token service would be asked without TLS, though the registry is not. Name the token service's \
                 host in the registries file if that is meant.",
            ));
        }
    }
    let answer = endpoint.exchange(ask, payload, authorization).await?;
    let body = answer.response.into_body().whole(LARGEST_ANSWER).await?;
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| asked.garbled("the token service's answer is not its JSON"))?;
    let text = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let header = text.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let mut header = header.ok_or_else(|| asked.garbled("the token service's answer holds no token"))?;
    header.set_sensitive(true);
    let lasts = life(answer.expires_in);
    Ok(Token { header, lasts, until: Instant::now() + lasts })
}

/// How a token is asked for: by HTTP Basic or by nobody's leave with a GET
/// (<https://distribution.github.io/distribution/spec/auth/token/>); with an identity token in a form, so that it is in
/// no URL (<https://distribution.github.io/distribution/spec/auth/oauth/>).
fn request(endpoint: &Endpoint, need: &Need, grant: &Grant) -> (Ask, Payload, Option<HeaderValue>) {
    let service = grant.service.iter().map(|service| ("service", service.as_str()));
    let wanted = service.chain([("scope", grant.scope.as_str())]);
    let mut ask = Ask {
        method: Method::GET,
        url: grant.realm.clone(),
        headers: HeaderMap::new(),
        repository: Arc::clone(&need.repository),
        within: endpoint.waits.first_byte,
        is_content_addressed: false,
        is_for_token: true,
    };
    if let Some(Secret::IdentityToken(token)) = grant.credentials.as_ref().map(Credentials::secret) {
        let identity = [("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "cache-registry")];
        let form =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(identity.into_iter().chain(wanted)).finish();
        ask.method = Method::POST;
        ask.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        return (ask, Payload::Bytes(Bytes::from(form)), None);
    }
    ask.url.query_pairs_mut().extend_pairs(wanted);
    (ask, Payload::Empty, grant.credentials.as_ref().and_then(Credentials::basic))
}

/// How long a token is used.
fn life(expires_in: Option<u64>) -> Duration {
    let life = expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(LONGEST_LIFE);
    life.saturating_sub(MARGIN.min(life / 2))
}

struct Life;

impl Expiry<Arc<Grant>, Token> for Life {
    fn expire_after_create(&self, _: &Arc<Grant>, token: &Token, _: Instant) -> Option<Duration> {
        Some(token.lasts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(None, 50)]
    #[case(Some(300), 290)]
    #[case(Some(10), 5)]
    #[case(Some(0), 0)]
    #[case(Some(u64::MAX), 3590)]
    fn a_token_is_used_until_shortly_before_it_runs_out(#[case] expires_in: Option<u64>, #[case] seconds: u64) {
        assert_eq!(life(expires_in), Duration::from_secs(seconds));
    }

    #[rstest]
    #[case("repository:library/x:pull", "", true)]
    #[case("repository:hub/library/x:pull", "", true)]
    #[case("repository:library/x:pull", "?scope=repository:library/x:pull", true)]
    #[case("repository:library/x:pull", "?scope=repository:library/x:push", false)]
    #[case("repository:library/x:pull,push", "", false)]
    #[case("repository:library/y:pull", "", false)]
    #[case("repository:library/x:pull repository:library/y:pull", "", false)]
    #[case("registry:catalog:*", "", false)]
    #[case("*", "", false)]
    #[case("", "", false)]
    fn only_a_token_to_pull_from_this_repository_is_handed_on(
        #[case] scope: &str,
        #[case] query: &str,
        #[case] good: bool,
    ) {
        let endpoint = Url::parse("https://reg.example/hub").unwrap();
        let need = Need {
            endpoint: endpoint.clone(),
            credentials: None,
            repository: "library/x".into(),
            access: Access::Pull,
        };
        let realm = Url::parse(&format!("https://auth.example/token{query}")).unwrap();
        let grant = Grant { endpoint, credentials: None, realm, service: None, scope: scope.to_owned() };
        assert_eq!(grant.is_to_pull(&need), good);
    }

    #[rstest]
    #[case("https://auth.docker.io/token", true)]
    #[case("http://x/token?a=b", true)]
    #[case("file:///etc/passwd", false)]
    #[case("/token", false)]
    #[case("https://u:p@x/", false)]
    fn a_token_service_is_reached_by_http(#[case] realm: &str, #[case] good: bool) {
        assert_eq!(realm_url(realm).is_ok(), good);
    }
}
