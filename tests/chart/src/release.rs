use serde_json::Value;

/// The objects of a release.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    objects: Vec<Value>,
    /// What is in a `ConfigMap` for a run of `gc` to create.
    jobs: Vec<Value>,
}

/// A pod that an object makes, or the pod of a `helm test`.
#[derive(Debug, Clone, Copy)]
pub struct Pod<'a> {
    /// `webhook`, `controllers`, `proxy`, `registry`, `gc`, `collection` (the pod of the Job that removes) or `test`.
    pub role: &'a str,
    /// Its labels and annotations.
    pub metadata: &'a Value,
    /// Its specification.
    pub spec: &'a Value,
}

impl Release {
    pub(crate) fn new(documents: Vec<Value>) -> Self {
        let objects: Vec<_> = documents.into_iter().filter(|document| !document.is_null()).collect();
        let jobs =
            objects.iter().filter_map(|object| serde_saphyr::from_str(object["data"]["job.yaml"].as_str()?).ok());
        Self { jobs: jobs.collect(), objects }
    }

    /// All of them.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// Those of a kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// One of them. It has to be there.
    pub fn object(&self, kind: &str, name: &str) -> &Value {
        let mut objects = self.objects.iter();
        let found = objects.find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
        found.unwrap_or_else(|| unreachable!("no {kind} {name}"))
    }

    /// The pods of all roles.
    pub fn pods(&self) -> Vec<Pod<'_>> {
        self.objects.iter().chain(&self.jobs).filter_map(pod).collect()
    }

    /// The pod of a role.
    pub fn pod(&self, role: &str) -> Pod<'_> {
        self.pods().into_iter().find(|pod| pod.role == role).unwrap_or_else(|| unreachable!("no pod of {role}"))
    }
}

impl<'a> Pod<'a> {
    /// Its container: each has one, but for the registry's, whose first is the one that is written to.
    pub fn container(&self) -> &'a Value {
        &self.spec["containers"][0]
    }

    /// All of them.
    pub fn containers(&self) -> &'a [Value] {
        self.spec["containers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Those that run before them, one after the other.
    pub fn init_containers(&self) -> &'a [Value] {
        self.spec["initContainers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The container's arguments.
    pub fn arguments(&self) -> Vec<&'a str> {
        self.container()["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// What a flag is given, `--flag=VALUE`.
    pub fn argument(&self, flag: &str) -> Option<&'a str> {
        self.arguments().into_iter().find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='))
    }
}

/// The value at a path: `spec.template`, `image.tag`.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| &value[key])
}

fn pod(object: &Value) -> Option<Pod<'_>> {
    let pod = match object["kind"].as_str()? {
        "Pod" => object,
        "CronJob" => at(object, "spec.jobTemplate.spec.template"),
        _ => at(object, "spec.template"),
    };
    let role = pod["metadata"]["labels"]["app.kubernetes.io/component"].as_str()?;
    Some(Pod { role, metadata: &pod["metadata"], spec: &pod["spec"] })
}
