use cache_registry_webhook::{NoPod, NoReview};

use crate::documents::{Misread, read, without_place};
use crate::node::{Content, Node, Place, Written};

/// A pod to be decided on: the review of it that the API server would send.
#[derive(Debug)]
pub(crate) struct Asked {
    /// An `AdmissionReview` in JSON.
    pub(crate) review: String,
    /// What the pod, or the review, comes from: `Deployment web`.
    pub(crate) origin: String,
    /// What to call the pod while it has no name.
    pub(crate) name: Option<String>,
    /// The pod in the review, and before an update the pod that it was.
    object: Option<Written>,
    old_object: Option<Written>,
    /// Where it began.
    place: Place,
}

/// What the documents of a text have of pods.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    pub(crate) asked: Vec<Asked>,
    /// Objects that have none, with their places.
    pub(crate) others: Vec<String>,
}

/// A kind of object that pods are made from.
struct Template {
    group: &'static str,
    kind: &'static str,
    /// Where in the object the template is.
    path: &'static [&'static str],
    /// The version and the kind of the pods' owner.
    owner: Option<(&'static str, &'static str)>,
}

const TEMPLATES: [Template; 8] = [
    Template { group: "", kind: "PodTemplate", path: &["template"], owner: None },
    workload("", "ReplicationController", ("v1", "ReplicationController")),
    workload("apps", "Deployment", ("apps/v1", "ReplicaSet")),
    workload("apps", "ReplicaSet", ("apps/v1", "ReplicaSet")),
    workload("apps", "StatefulSet", ("apps/v1", "StatefulSet")),
    workload("apps", "DaemonSet", ("apps/v1", "DaemonSet")),
    workload("batch", "Job", ("batch/v1", "Job")),
    Template {
        group: "batch",
        kind: "CronJob",
        path: &["spec", "jobTemplate", "spec", "template"],
        owner: Some(("batch/v1", "Job")),
    },
];

const fn workload(group: &'static str, kind: &'static str, owner: (&'static str, &'static str)) -> Template {
    Template { group, kind, path: &["spec", "template"], owner: Some(owner) }
}

/// Every pod of a text of YAML or JSON. Those that say no namespace are in `namespace`.
pub(crate) fn pods(text: &str, namespace: &str) -> Result<Pods, Misread> {
    let mut pods = Pods::default();
    for document in read(text)? {
        pods.take(text, &document, namespace)?;
    }
    Ok(pods)
}

impl Pods {
    fn take(&mut self, text: &str, object: &Node, namespace: &str) -> Result<(), Misread> {
        let misread = |node: &Node, words: String| Misread::new(text, Some(node.place), words);
        let Content::Map(_) = &object.content else {
            return Err(misread(object, "expected an object of Kubernetes, with apiVersion and kind".to_owned()));
        };
        let Some(kind) = object.find_text(&["kind"]) else {
            return Err(misread(object, "expected an object of Kubernetes; it has no kind".to_owned()));
        };
        let Some(api_version) = object.find_text(&["apiVersion"]) else {
            return Err(misread(object, format!("expected an object of Kubernetes; {kind} has no apiVersion")));
        };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if let Some(items) = object.get("items").filter(|_| kind.ends_with("List")) {
            let Content::List(items) = &items.content else {
                return Err(misread(items, format!("expected the items of a {kind} to be a list")));
            };
            return items.iter().try_for_each(|item| self.take(text, item, namespace));
        }
        let origin = match object.find_text(&["metadata", "name"]) {
            Some(name) => format!("{kind} {name}"),
            None => kind.to_owned(),
        };
        match (group, kind) {
            ("", "Pod") => self.asked.push(Asked::pod(object, origin, None, namespace)),
            ("admission.k8s.io", "AdmissionReview") => self.asked.push(Asked::review(object)),
            _ => {
                let Some(template) = TEMPLATES.iter().find(|known| (known.group, known.kind) == (group, kind)) else {
                    self.others.push(format!("{}: {origin} has no pods, and is passed over", object.place));
                    return Ok(());
                };
                let Some(of_pod) = object.find(template.path).filter(|node| !node.is_null()) else {
                    return Err(misread(object, format!("expected {} in {origin}", template.path.join("."))));
                };
                let name = object.find_text(&["metadata", "name"]).map(ToOwned::to_owned);
                self.asked.push(Asked::pod(&template.pod(object, of_pod), origin, name, namespace));
            }
        }
        Ok(())
    }
}

impl Template {
    /// The pod that the object's controller makes.
    fn pod(&self, object: &Node, template: &Node) -> Node {
        let place = template.place;
        let empty = Node { content: Content::Map([].into()), place };
        let mut metadata = template.get("metadata").filter(|metadata| !metadata.is_null()).cloned().unwrap_or(empty);
        if let Content::Map(metadata) = &mut metadata.content {
            if let Some(namespace) = object.find(&["metadata", "namespace"]) {
                metadata.insert("namespace".to_owned(), namespace.clone());
            }
            if let (Some((version, kind)), Some(name)) = (self.owner, object.find_text(&["metadata", "name"])) {
                metadata.insert("generateName".to_owned(), Node::text(&format!("{name}-"), place));
                let controller = Node { content: Content::Scalar(true.into()), place };
                let owner = [
                    ("apiVersion", Node::text(version, place)),
                    ("kind", Node::text(kind, place)),
                    ("name", Node::text(name, place)),
                    ("controller", controller),
                ];
                let owners = Content::List(vec![Node::map(owner, place)]);
                metadata.insert("ownerReferences".to_owned(), Node { content: owners, place });
            }
        }
        let pod = [("apiVersion", Node::text("v1", place)), ("kind", Node::text("Pod", place)), ("metadata", metadata)];
        let mut pod = Node::map(pod, place);
        if let (Content::Map(pod), Some(spec)) = (&mut pod.content, template.get("spec")) {
            pod.insert("spec".to_owned(), spec.clone());
        }
        pod
    }
}

impl Asked {
    /// The review of a pod that is created.
    fn pod(pod: &Node, origin: String, name: Option<String>, namespace: &str) -> Self {
        let object = pod.to_json();
        let namespace = pod.find_text(&["metadata", "namespace"]).unwrap_or(namespace);
        let review = format!(
            concat!(
                r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"","#,
                r#""kind":{{"group":"","version":"v1","kind":"Pod"}},"operation":"CREATE","namespace":{},"object":{}}}}}"#,
            ),
            serde_json::Value::from(namespace),
            object.json,
        );
        Self { review, origin, name, object: Some(object), old_object: None, place: pod.place }
    }

    fn review(review: &Node) -> Self {
        let part = |key| review.find(&["request", key]).map(Node::to_json);
        Self {
            review: review.to_json().json,
            origin: "AdmissionReview".to_owned(),
            name: review.find_text(&["request", "name"]).map(ToOwned::to_owned),
            object: part("object"),
            old_object: part("oldObject"),
            place: review.place,
        }
    }

    /// What the webhook refuses it for, with the place in the text that it was read from.
    pub(crate) fn misread(&self, text: &str, refusal: &NoReview) -> Misread {
        let (place, problem) = match refusal.no_pod() {
            Some(NoPod { field, column, problem }) => {
                let part = if field == "oldObject" { &self.old_object } else { &self.object };
                (part.as_ref().and_then(|part| part.place_of(column)), without_place(&problem))
            }
            None => (None, without_place(refusal)),
        };
        Misread::new(text, Some(place.unwrap_or(self.place)), format!("{}: {problem}", self.origin))
    }
}
