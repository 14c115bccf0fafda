//! Example policy: leaves the pods of an operator alone.
