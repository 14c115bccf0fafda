//! Policies from `ConfigMap`s.

mod compression;
mod declaration;
mod encode;
mod refusal;
mod settings;

pub use compression::{LARGEST_COMPONENT, decompress};
pub use declaration::{BUILT_IN_PRIORITY, Declaration, Image, Source, decode};
pub use encode::{EncodeError, NewConfigMap, encode};
pub use refusal::Refusal;
pub use settings::{LONGEST_SETTINGS, settings_json};
