use std::borrow::{Borrow, Cow};
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::pod::Pod;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// The request of an `AdmissionReview`
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#request>): the part of
/// it that matters here, borrowed from the body.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) uid: Text<'a>,
    #[serde(borrow)]
    pub(crate) operation: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) sub_resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    namespace: Option<Text<'a>>,
    #[serde(borrow)]
    kind: GroupVersionKind<'a>,
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    old_object: Option<&'a RawValue>,
}

/// A text in the review: borrowed where JSON has it without escapes, which is nearly always.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Why a body is not a review that can be answered. The text tells what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("expected an AdmissionReview in JSON: {0}")]
    NoReview(serde_json::Error),
    #[error("expected kind {KIND} of {API_VERSION}, got kind {kind:?} of {api_version:?}")]
    OtherKind { api_version: String, kind: String },
    #[error("expected an AdmissionReview with a request")]
    NoRequest,
    #[error("expected request.kind to be Pod of v1, got {kind:?} of {version:?} in group {group:?}")]
    OtherObject { group: String, version: String, kind: String },
    #[error("expected request.{0} to be the pod, it is absent")]
    NoPod(&'static str),
    #[error("expected request.{field} to be a Pod: {error}")]
    BadPod { field: &'static str, error: serde_json::Error },
}

/// Reads the body of a review.
pub(crate) fn parse(body: &[u8]) -> Result<Request<'_>, Malformed> {
    let review: Review<'_> = serde_json::from_slice(body).map_err(Malformed::NoReview)?;
    let (api_version, kind) = (text(review.api_version.as_ref()), text(review.kind.as_ref()));
    if (api_version, kind) != (API_VERSION, KIND) {
        return Err(Malformed::OtherKind { api_version: api_version.to_owned(), kind: kind.to_owned() });
    }
    review.request.ok_or(Malformed::NoRequest)
}

/// The response to the request `uid`: allowed, always, with a patch where there is something to change.
pub(crate) fn allowed(uid: &str, patch: &Patch, warnings: &[String]) -> Result<Vec<u8>, serde_json::Error> {
    let patch = if patch.is_empty() { None } else { Some(STANDARD.encode(serde_json::to_vec(patch)?)) };
    let patch_type = patch.is_some().then_some("JSONPatch");
    let response = Response { uid, allowed: true, patch_type, patch, warnings };
    serde_json::to_vec(&Answer { api_version: API_VERSION, kind: KIND, response })
}

impl<'a> Request<'a> {
    /// The pod as it shall be, and its JSON.
    pub(crate) fn pod(&self) -> Result<(Pod<'a>, &'a str), Malformed> {
        let GroupVersionKind { group, version, kind } = &self.kind;
        if (&**group, &**version, &**kind) != ("", "v1", "Pod") {
            let (group, version, kind) = (group.to_string(), version.to_string(), kind.to_string());
            return Err(Malformed::OtherObject { group, version, kind });
        }
        read("object", self.object)
    }

    /// The pod before an update.
    pub(crate) fn pod_before(&self) -> Result<Pod<'a>, Malformed> {
        Ok(read("oldObject", self.old_object)?.0)
    }

    /// Empty for an object that is in none.
    pub(crate) fn namespace(&self) -> &str {
        text(self.namespace.as_ref())
    }

    /// Empty for the pod itself.
    pub(crate) fn sub_resource(&self) -> &str {
        text(self.sub_resource.as_ref())
    }
}

fn read<'a>(field: &'static str, json: Option<&'a RawValue>) -> Result<(Pod<'a>, &'a str), Malformed> {
    let json = json.ok_or(Malformed::NoPod(field))?.get();
    let pod = serde_json::from_str(json).map_err(|error| Malformed::BadPod { field, error })?;
    Ok((pod, json))
}

fn text<'t>(text: Option<&'t Text<'_>>) -> &'t str {
    text.map_or("", |text| &text.0)
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    #[serde(borrow, default)]
    api_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    request: Option<Request<'a>>,
}

#[derive(Debug, Deserialize)]
struct GroupVersionKind<'a> {
    #[serde(borrow)]
    group: Text<'a>,
    #[serde(borrow)]
    version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}
