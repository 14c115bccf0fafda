/// What the API server passes on of one warning, and of all of them
/// (<https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>).
const LONGEST: usize = 256;
const LONGEST_TOGETHER: usize = 4096;

/// Makes warnings fit for a response: on one line each, with our name in front of them, cut where the API server
/// would cut them, and no more together than it passes on.
pub(crate) fn fit(warnings: &[String]) -> Vec<String> {
    let mut room = LONGEST_TOGETHER;
    let mut fitted = Vec::new();
    for (number, warning) in warnings.iter().enumerate() {
        let warning = line(warning);
        // What says how many are left out has its place kept.
        if room < warning.len() + LONGEST {
            fitted.push(format!("cache-registry: {} more warnings", warnings.len() - number));
            break;
        }
        room -= warning.len();
        fitted.push(warning);
    }
    fitted
}

fn line(warning: &str) -> String {
    // A warning travels in an HTTP header, where a control character would lose it.
    let clean = warning.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = "cache-registry: ".chars().chain(clean).collect();
    if line.len() > LONGEST {
        const CUT: &str = "…";
        line.truncate(line.floor_char_boundary(LONGEST - CUT.len()));
        line.push_str(CUT);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_one_line_with_our_name() {
        assert_eq!(fit(&["container web:\n\tx\u{7}".to_owned()]), ["cache-registry: container web:  x "]);
    }

    #[test]
    fn are_cut_between_characters() {
        let fitted = fit(&["é".repeat(500)]);
        assert_eq!(fitted.len(), 1);
        assert!(fitted[0].len() <= LONGEST && fitted[0].ends_with("é…"), "{}", fitted[0]);
    }

    #[test]
    fn are_no_more_than_the_api_server_passes_on_and_say_so() {
        let fitted = fit(&vec!["x".repeat(400); 100]);
        assert!(fitted.iter().map(String::len).sum::<usize>() <= LONGEST_TOGETHER);
        assert_eq!(fitted.last().unwrap(), "cache-registry: 85 more warnings");
        assert_eq!(fitted.len(), 16);
    }
}
