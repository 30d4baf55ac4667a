//! Aggregates: `COUNT(DISTINCT tailnum) FILTER (WHERE …)` and the like.

use serde_json::{Map, Value as Json, json};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
    ValueWithSpan,
};

use crate::{
    expression::{Scope, function_name, plain_argument},
    functions,
    place::{SqlError, start_of},
    select::Compiler,
};

impl Compiler {
    /// The document's form of an aggregate that will stand at `path`.
    pub(crate) fn aggregate(&mut self, function: &Function, name: &str, path: &str) -> Result<Json, SqlError> {
        let (sql_name, at) = function_name(function);
        self.places.note(path, at);
        let Some(known) = functions::aggregate(&sql_name) else {
            return Err(SqlError::new(at, format!("there is no aggregate {}", sql_name.to_uppercase())));
        };
        let Function { name: _, uses_odbc_syntax: _, parameters, args, within_group, filter, null_treatment, over } =
            function;
        let refuse = |message: &str, hint: &str| Err(SqlError::new(at, message).hint(hint));
        if over.is_some() {
            return refuse("OVER is not supported", "the window is named in FROM: TUMBLE, HOP or SESSION");
        }
        if !within_group.is_empty() {
            return refuse("WITHIN GROUP is not supported", "QUANTILE(value, 0.95)");
        }
        if null_treatment.is_some() || *parameters != FunctionArguments::None {
            return refuse("only arguments in brackets are supported", "what has no value is always passed over");
        }
        let FunctionArguments::List(list) = args else {
            return refuse("an aggregate has arguments in brackets", "COUNT(*)");
        };
        if !list.clauses.is_empty() {
            return refuse("clauses inside of an aggregate are not supported", "FIRST and LAST go by time");
        }
        let distinct = match (list.duplicate_treatment, known.function) {
            (None | Some(DuplicateTreatment::All), _) => false,
            (Some(DuplicateTreatment::Distinct), "count") => true,
            _ => return refuse("DISTINCT is supported in COUNT only", "COUNT(DISTINCT value)"),
        };
        let mut members = Map::new();
        members.insert("name".to_owned(), json!(name));
        members.insert("function".to_owned(), json!(if distinct { "distinct" } else { known.function }));
        match list.args.as_slice() {
            [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] if known.function == "count" && !distinct => {}
            arguments => {
                let arguments =
                    arguments.iter().map(|argument| plain_argument(argument, at)).collect::<Result<Vec<_>, _>>()?;
                self.arguments(&arguments, &known, at, path, &mut members)?;
            }
        }
        match sql_name.as_str() {
            "median" => drop(members.insert("q".to_owned(), json!(0.5))),
            "var_pop" | "stddev_pop" => drop(members.insert("sample".to_owned(), json!(false))),
            _ => {}
        }
        if let Some(filter) = filter {
            let filter = self.expression(filter, &format!("{path}.where"), Scope::Record)?;
            members.insert("where".to_owned(), filter);
        }
        Ok(Json::Object(members))
    }

    /// The arguments by the names that they have in documents.
    fn arguments(
        &mut self,
        arguments: &[&Expr],
        known: &functions::AggregateName,
        at: sqlparser::tokenizer::Location,
        path: &str,
        members: &mut Map<String, Json>,
    ) -> Result<(), SqlError> {
        let open = known.function == "histogram";
        if arguments.len() != known.arguments.len() && !(open && arguments.len() > 1) {
            let expected = known.arguments.iter().map(|name| if *name == "of" { "value" } else { name });
            let message = format!("{} takes {}", known.function, expected.collect::<Vec<_>>().join(" and "));
            return Err(SqlError::new(at, message));
        }
        for (name, argument) in known.arguments.iter().zip(arguments) {
            let place = format!("{path}.{name}");
            let json = match *name {
                "of" | "by" => self.expression(argument, &place, Scope::Record)?,
                "edges" => {
                    let edges = arguments.iter().skip(1).map(|edge| self.constant(edge, &place));
                    Json::Array(edges.collect::<Result<_, _>>()?)
                }
                _ => self.constant(argument, &place)?,
            };
            members.insert((*name).to_owned(), json);
        }
        Ok(())
    }

    fn constant(&mut self, expr: &Expr, path: &str) -> Result<Json, SqlError> {
        let number = match expr {
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => expr,
            other => other,
        };
        match number {
            Expr::Value(ValueWithSpan { value: Value::Number(..), .. }) => self.expression(expr, path, Scope::Record),
            _ => Err(SqlError::new(start_of(expr), "here stands a number")),
        }
    }
}
