//! Expressions, compiled and evaluated.
//!
//! The rules are SQL's: what has no value gives no value, except where an operator says otherwise,
//! and a condition holds only if it is true. Nothing here can fail: what makes no sense (the
//! logarithm of a name) has no value either.

mod functions;

use std::cmp::Ordering;

use super::{
    json::Fields,
    plan::{BinaryOp, Expr, Function, UnaryOp},
    value::{DECIMAL_ONE, Decimal, Value},
};

/// What an expression sees around it.
pub(crate) trait Scope {
    /// A field of the record's value, by its slot.
    fn field(&self, _slot: usize) -> Value<'_> {
        Value::Null
    }
    /// Anything else that is named in [`Leaf`].
    fn leaf(&self, leaf: Leaf) -> Value<'_>;
}

/// What an expression may name besides fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    Key,
    RecordTime,
    AppendTime,
    EventTime,
    Partition,
    Offset,
    Group(usize),
    Aggregate(usize),
    WindowStart,
    WindowEnd,
    Records,
}

/// A compiled expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Literal(Value<'static>),
    Field(usize),
    Leaf(Leaf),
    Unary(UnaryOp, Box<Self>),
    Binary(BinaryOp, Box<(Self, Self)>),
    IsNull(Box<Self>),
    In(Box<Self>, Vec<Self>),
    Like(Box<Self>, Vec<char>),
    Case(Vec<(Self, Self)>, Box<Self>),
    Call(Function, Vec<Self>),
}

/// Compiles an expression; its fields get slots.
pub(crate) fn compile(expr: &Expr, fields: &mut Fields) -> Node {
    let mut compile = |expr: &Expr| compile(expr, fields);
    match expr {
        Expr::Literal(value) => Node::Literal(value.clone()),
        Expr::Field(path) => Node::Field(fields.slot(path)),
        Expr::Key => Node::Leaf(Leaf::Key),
        Expr::RecordTime => Node::Leaf(Leaf::RecordTime),
        Expr::AppendTime => Node::Leaf(Leaf::AppendTime),
        Expr::EventTime => Node::Leaf(Leaf::EventTime),
        Expr::Partition => Node::Leaf(Leaf::Partition),
        Expr::Offset => Node::Leaf(Leaf::Offset),
        Expr::Group(index) => Node::Leaf(Leaf::Group(*index)),
        Expr::Aggregate(index) => Node::Leaf(Leaf::Aggregate(*index)),
        Expr::WindowStart => Node::Leaf(Leaf::WindowStart),
        Expr::WindowEnd => Node::Leaf(Leaf::WindowEnd),
        Expr::Records => Node::Leaf(Leaf::Records),
        Expr::Unary(op, operand) => Node::Unary(*op, Box::new(compile(operand))),
        Expr::Binary(op, left, right) => Node::Binary(*op, Box::new((compile(left), compile(right)))),
        Expr::IsNull(operand) => Node::IsNull(Box::new(compile(operand))),
        Expr::In(operand, list) => Node::In(Box::new(compile(operand)), list.iter().map(compile).collect()),
        Expr::Like(operand, pattern) => Node::Like(Box::new(compile(operand)), pattern.chars().collect()),
        Expr::Case { branches, otherwise } => {
            let branches = branches.iter().map(|(when, then)| (compile(when), compile(then))).collect();
            let otherwise = otherwise.as_deref().map_or(Node::Literal(Value::Null), compile);
            Node::Case(branches, Box::new(otherwise))
        }
        Expr::Call(function, arguments) => Node::Call(*function, arguments.iter().map(compile).collect()),
    }
}

impl Node {
    /// Whether the value is true.
    pub(crate) fn holds(&self, scope: &impl Scope) -> bool {
        matches!(self.eval(scope), Value::Bool(true))
    }

    /// The value.
    pub(crate) fn eval<'a>(&'a self, scope: &'a impl Scope) -> Value<'a> {
        match self {
            Self::Literal(value) => borrow(value),
            Self::Field(slot) => scope.field(*slot),
            Self::Leaf(leaf) => scope.leaf(*leaf),
            Self::Unary(UnaryOp::Not, operand) => match operand.eval(scope) {
                Value::Bool(value) => Value::Bool(!value),
                _ => Value::Null,
            },
            Self::Unary(UnaryOp::Negate, operand) => match operand.eval(scope) {
                Value::Exact(exact) => Value::Exact(Decimal(-exact.0)),
                Value::Float(float) => Value::Float(-float),
                _ => Value::Null,
            },
            Self::Binary(BinaryOp::And, sides) => junction(sides, scope, false),
            Self::Binary(BinaryOp::Or, sides) => junction(sides, scope, true),
            Self::Binary(op, sides) => binary(*op, &sides.0.eval(scope), &sides.1.eval(scope)),
            Self::IsNull(operand) => Value::Bool(operand.eval(scope).is_null()),
            Self::In(operand, list) => is_in(&operand.eval(scope), list, scope),
            Self::Like(operand, pattern) => match operand.eval(scope) {
                Value::Text(text) => Value::Bool(is_like(&text, pattern)),
                _ => Value::Null,
            },
            Self::Case(branches, otherwise) => {
                let branch = branches.iter().find(|(condition, _)| condition.holds(scope));
                branch.map_or(otherwise.as_ref(), |(_, value)| value).eval(scope)
            }
            Self::Call(function, arguments) => functions::call(*function, arguments, scope),
        }
    }
}

/// The same value, for as long as the other one is there.
pub(crate) fn borrow<'a>(value: &'a Value<'_>) -> Value<'a> {
    match value {
        Value::Text(text) => Value::Text(std::borrow::Cow::Borrowed(text)),
        Value::Bytes(bytes) => Value::Bytes(std::borrow::Cow::Borrowed(bytes)),
        other => other.clone(),
    }
}

/// AND is decided by a false side, OR by a true one.
fn junction<'a>(sides: &'a (Node, Node), scope: &'a impl Scope, decided_by: bool) -> Value<'a> {
    let side = |node: &'a Node| match node.eval(scope) {
        Value::Bool(value) => Some(value),
        _ => None,
    };
    let left = side(&sides.0);
    if left == Some(decided_by) {
        return Value::Bool(decided_by);
    }
    match (left, side(&sides.1)) {
        (_, Some(right)) if right == decided_by => Value::Bool(decided_by),
        (Some(_), Some(right)) => Value::Bool(right),
        _ => Value::Null,
    }
}

/// The order of two values of one kind; an exact number is equal to the floating point number
/// nearest to it.
fn compare(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Exact(_), Value::Float(_)) | (Value::Float(_), Value::Exact(_)) => {
            left.as_f64()?.partial_cmp(&right.as_f64()?)
        }
        (Value::Null, _) | (_, Value::Null) => None,
        _ => (left.kind() == right.kind()).then(|| left.total_cmp(right)),
    }
}

fn binary(op: BinaryOp, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
    let test = |test: fn(Ordering) -> bool| compare(left, right).map_or(Value::Null, |order| Value::Bool(test(order)));
    match op {
        BinaryOp::Equal | BinaryOp::NotEqual if left.is_null() || right.is_null() => Value::Null,
        // Values of different kinds are different.
        BinaryOp::Equal => Value::Bool(compare(left, right).is_some_and(Ordering::is_eq)),
        BinaryOp::NotEqual => Value::Bool(!compare(left, right).is_some_and(Ordering::is_eq)),
        BinaryOp::Less => test(Ordering::is_lt),
        BinaryOp::LessOrEqual => test(Ordering::is_le),
        BinaryOp::Greater => test(Ordering::is_gt),
        BinaryOp::GreaterOrEqual => test(Ordering::is_ge),
        BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide | BinaryOp::Remainder => {
            arithmetic(op, left, right)
        }
        BinaryOp::And | BinaryOp::Or => Value::Null,
    }
}

fn arithmetic(op: BinaryOp, left: &Value<'_>, right: &Value<'_>) -> Value<'static> {
    if let (Value::Exact(a), Value::Exact(b)) = (left, right)
        && let Some(exact) = exact_arithmetic(op, a.0, b.0).map(Decimal).filter(|exact| exact.is_in_range())
    {
        return Value::Exact(exact);
    }
    let (Some(a), Some(b)) = (left.as_f64(), right.as_f64()) else { return Value::Null };
    match op {
        BinaryOp::Add => Value::float(a + b),
        BinaryOp::Subtract => Value::float(a - b),
        BinaryOp::Multiply => Value::float(a * b),
        BinaryOp::Divide if b != 0.0 => Value::float(a / b),
        BinaryOp::Remainder if b != 0.0 => Value::float(a % b),
        _ => Value::Null,
    }
}

/// The result in billionths, if it is exact.
fn exact_arithmetic(op: BinaryOp, a: i128, b: i128) -> Option<i128> {
    let exact_quotient = |a: i128, b: i128| (b != 0 && a % b == 0).then(|| a / b);
    match op {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Subtract => a.checked_sub(b),
        BinaryOp::Multiply if b % DECIMAL_ONE == 0 => a.checked_mul(b / DECIMAL_ONE),
        BinaryOp::Multiply if a % DECIMAL_ONE == 0 => b.checked_mul(a / DECIMAL_ONE),
        BinaryOp::Multiply => exact_quotient(a.checked_mul(b)?, DECIMAL_ONE),
        BinaryOp::Divide => exact_quotient(a.checked_mul(DECIMAL_ONE)?, b),
        BinaryOp::Remainder if b != 0 => Some(a % b),
        _ => None,
    }
}

fn is_in<'a>(value: &Value<'_>, list: &'a [Node], scope: &'a impl Scope) -> Value<'static> {
    if value.is_null() {
        return Value::Null;
    }
    let mut unknown = false;
    for node in list {
        match binary(BinaryOp::Equal, value, &node.eval(scope)) {
            Value::Bool(true) => return Value::Bool(true),
            Value::Null => unknown = true,
            _ => {}
        }
    }
    if unknown { Value::Null } else { Value::Bool(false) }
}

/// Goes through text and pattern once; after a difference the last `%` takes one character more.
fn is_like(text: &str, pattern: &[char]) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut place) = (0, 0);
    let mut retry = None;
    while at < text.len() {
        let (matched, width) = match &pattern[place..] {
            ['%', ..] => {
                retry = Some((at, place + 1));
                place += 1;
                continue;
            }
            ['\\', literal, ..] => (*literal == text[at], 2),
            ['_', ..] => (true, 1),
            [literal, ..] => (*literal == text[at], 1),
            [] => (false, 0),
        };
        if matched {
            at += 1;
            place += width;
        } else if let Some((from, after)) = retry {
            at = from + 1;
            place = after;
            retry = Some((at, after));
        } else {
            return false;
        }
    }
    pattern[place..].iter().all(|rest| *rest == '%')
}

#[cfg(test)]
mod tests;
