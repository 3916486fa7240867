//! `%(a + 1)`: what a placeholder with blanks in it gives.

/// The value of `expression`: tokens from left to right without precedence. Two values side by side are glued together.
///
/// `value_of` is asked for every token that is neither an operator nor made of digits; what it does not know is empty. A value that has to be a number
/// is read like C's atoi. `None`: there are only operators, so that it is no expression.
pub fn evaluate(expression: &str, mut value_of: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut result: Option<String> = None;
    let mut pending = None;
    for token in expression.split(' ').filter(|token| !token.is_empty()) {
        match token {
            "+" => pending = Some(Operator::Add),
            "-" => pending = Some(Operator::Subtract),
            "*" => pending = Some(Operator::Multiply),
            "/" => pending = Some(Operator::Divide),
            "++" | "--" => {
                // forgets an operator that waits
                let step = if token == "++" { Operator::Add } else { Operator::Subtract };
                pending = None;
                result = result.map(|result| step.apply(number(&result), 1).to_string());
            }
            operand => {
                let operand = if is_digits(operand) { operand.to_owned() } else { value_of(operand).unwrap_or_default() };
                let before = result.unwrap_or_default();
                result = Some(match pending.take() {
                    None => before + &operand,
                    Some(operator) => operator.apply(number(&before), number(&operand)).to_string(),
                });
            }
        }
    }
    result
}

enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Operator {
    fn apply(&self, left: i64, right: i64) -> i64 {
        match self {
            Self::Add => left.wrapping_add(right),
            Self::Subtract => left.wrapping_sub(right),
            Self::Multiply => left.wrapping_mul(right),
            Self::Divide if right == 0 => 0,
            Self::Divide => left.wrapping_div(right),
        }
    }
}

fn is_digits(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_digit())
}

/// C's atoi on 64 bits: leading blanks, a sign, digits; the rest is ignored, and nothing is 0.
pub fn number(text: &str) -> i64 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = digits
        .bytes()
        .take_while(u8::is_ascii_digit)
        .fold(0_i64, |number, digit| number.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(expression: &str) -> String {
        result(expression).expect("has operands")
    }

    fn result(expression: &str) -> Option<String> {
        evaluate(expression, |name| {
            let known = [("n", "4"), ("m", "2"), ("five", "5x"), ("word", "hello"), ("minus", "-5")];
            known.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    /// Every line was run on uWSGI 2.0.31.
    #[test]
    fn goes_from_left_to_right_as_uwsgi_does() {
        for (expression, expected) in [
            ("1 + 2 * 3", "9"),
            ("10 - 3 - 2", "5"),
            ("7 / 2", "3"),
            ("1 / 0", "0"),
            (" 4 ", "4"),
            ("4  + 2", "6"),
            ("4 + ", "4"),
            ("+ 4", "4"),
            ("n + m", "6"),
            ("n - 10", "-6"),
            ("n m", "42"),
            ("n ++", "5"),
            ("n --", "3"),
            ("n -- --", "2"),
            ("1 + nope + 2", "3"),
            ("nope nope", ""),
            ("nope ++ ++", "2"),
            ("2 * abc", "0"),
            ("1 2 + 3", "15"),
            ("five + 1", "6"),
            ("word + 1", "1"),
            ("word five", "hello5x"),
            ("five word + 1", "6"),
            ("(2 * 2) + 1", "1"),
            ("minus + 3", "-2"),
            ("minus -3", "-5"),
            ("minus - -3", "-5"),
            ("3 + + 4", "7"),
            ("m + ++", "3"),
            ("m ++ m", "32"),
            ("7 + ++ 3", "83"),
            ("++ 3", "3"),
            ("-- -3", ""),
            ("2147483647 + 1", "2147483648"),
        ] {
            assert_eq!(value(expression), expected, "{expression}");
        }
    }

    #[test]
    fn operators_alone_are_no_expression() {
        for expression in [" ", "- ", " ++", " + *  -- /"] {
            assert_eq!(result(expression), None, "{expression}");
        }
    }

    #[test]
    fn extremes_wrap_instead_of_panicking() {
        assert_eq!(
            evaluate("a / b", |name| Some(if name == "a" { i64::MIN.to_string() } else { "-1".into() })),
            Some(i64::MAX.to_string())
        );
        assert_eq!(evaluate("a ++", |_| Some(i64::MAX.to_string())), Some(i64::MIN.to_string()));
        assert_eq!(evaluate("a * a", |_| Some(i64::MAX.to_string())).as_deref(), Some("1"));
    }
}
