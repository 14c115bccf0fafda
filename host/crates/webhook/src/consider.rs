use std::sync::Arc;

use cache_registry_core::Verdict;

use crate::conclusion::{Conclusion, conclude};
use crate::decide::Decide;
use crate::ground::Ground;
use crate::inquiry::{Examined, Inquiry, Passed, examine};
use crate::review::{Malformed, Request};

/// What has come of a review.
#[expect(clippy::large_enum_variant, reason = "one lives for one admission request; a Box would cost more")]
pub(crate) enum Considered<'a> {
    /// Nothing was asked.
    Passed(Passed<'a>),
    /// What was asked, what was answered, and what follows from it.
    Concluded { inquiry: Inquiry<'a>, verdicts: Vec<Verdict>, conclusion: Conclusion },
}

/// The way from a review to its answer, for whoever wants it answered.
pub(crate) async fn consider<'a, D: Decide>(
    request: &Request<'a>,
    decide: &D,
    ground: &Ground,
) -> Result<Considered<'a>, Malformed> {
    let mut inquiry = match examine(request, ground)? {
        Examined::Inquiry(inquiry) => inquiry,
        Examined::Passed(passed) => return Ok(Considered::Passed(passed)),
    };
    let questions = inquiry.take_questions();
    let verdicts = if questions.is_empty() {
        Vec::new()
    } else {
        decide.decide(Arc::new(inquiry.facts(request.namespace())), questions).await
    };
    let conclusion = conclude(&inquiry, &verdicts, &ground.node);
    Ok(Considered::Concluded { inquiry, verdicts, conclusion })
}
