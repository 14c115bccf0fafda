//! Write a policy as a struct and one function.
