//! SELECT, GROUP BY, HAVING and ORDER BY: what makes the groups, what is computed, what a row shows.

use serde_json::{Value as Json, json};
use sqlparser::{
    ast::{Expr, Function, GroupByExpr, Ident, ObjectNamePart, OrderByKind, OrderBySort, SelectItem},
    tokenizer::Location,
};

use crate::{
    expression::{Scope, function_name, ungrouped},
    functions,
    place::{Places, SqlError, start_of},
    statement::Statement,
};

/// The parts of a row that are not computed, by their names in SQL.
const WINDOW_PARTS: [&str; 2] = ["window_start", "window_end"];

/// What is gathered on the way.
#[derive(Default)]
pub(crate) struct Compiler {
    pub(crate) places: Places,
    /// Names and expressions of the group.
    groups: Vec<(String, Expr)>,
    /// Names, calls and documents of the aggregates.
    aggregates: Vec<(String, Function, Json)>,
    /// Names that SELECT gives to expressions.
    aliases: Vec<(Ident, Expr)>,
    /// The aliases that are being replaced by what they mean.
    open: Vec<String>,
    /// How many parts of expressions were written so far.
    pub(crate) written: usize,
}

/// One thing that SELECT lists.
struct Item<'a> {
    expr: &'a Expr,
    alias: Option<&'a Ident>,
}

/// The document of a statement, and where its parts came from.
pub(crate) fn document(statement: &Statement, default_name: &str) -> Result<(Json, Places), SqlError> {
    let mut compiler = Compiler::default();
    let source = compiler.source(statement)?;
    let select = &statement.select;
    let items = compiler.items(statement)?;
    let group_by = compiler.group_by(statement, &items)?;
    compiler.name_aggregates(&items)?;
    let columns = compiler.columns(&items)?;
    let mut document = json!({
        "version": 1,
        "name": statement.name.as_ref().map_or(default_name, |(name, _)| name),
        "input": { "topic": source.topic },
        "window": source.window,
        "time": { "source": source.time },
        "group_by": group_by,
        "columns": columns,
    });
    if let Some((_, at)) = &statement.name {
        compiler.places.note("$.name", *at);
    }
    if let Some(selection) = &select.selection {
        document["input"]["where"] = compiler.expression(selection, "$.input.where", Scope::Record)?;
    }
    if let Some(having) = &select.having {
        document["having"] = compiler.expression(having, "$.having", Scope::Row)?;
    }
    if let (Some(order), Some(limit)) = (&statement.order, &statement.limit) {
        document["top"] = compiler.top(order, limit, statement)?;
    }
    compiler.options(&statement.options, &mut document)?;
    document["aggregates"] = compiler.aggregates.iter().map(|(_, _, json)| json.clone()).collect();
    Ok((document, compiler.places))
}

impl Compiler {
    /// What SELECT lists; names are noted, so that others can refer to them.
    fn items<'a>(&mut self, statement: &'a Statement) -> Result<Vec<Item<'a>>, SqlError> {
        let mut items = Vec::new();
        for item in &statement.select.projection {
            let item = match item {
                SelectItem::UnnamedExpr(expr) => Item { expr, alias: None },
                SelectItem::ExprWithAlias { expr, alias } => Item { expr, alias: Some(alias) },
                _ => {
                    let message = "only expressions are supported, each with one name";
                    return Err(SqlError::new(statement.place_of("SELECT"), message)
                        .hint("list the columns: a stream's rows have no * to stand for"));
                }
            };
            if let Some(alias) = item.alias {
                self.aliases.push((alias.clone(), item.expr.clone()));
            }
            items.push(item);
        }
        if items.is_empty() {
            return Err(SqlError::new(statement.place_of("SELECT"), "SELECT lists nothing"));
        }
        Ok(items)
    }

    /// The columns of the group. The window has to be one of them: that makes the same query of a batch engine.
    fn group_by(&mut self, statement: &Statement, items: &[Item<'_>]) -> Result<Json, SqlError> {
        let exprs = match &statement.select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => exprs,
            _ => {
                let message = "GROUP BY lists expressions, without ALL, CUBE and the like";
                return Err(SqlError::new(statement.place_of("GROUP"), message));
            }
        };
        let mut windowed = false;
        let mut written = Vec::new();
        for expr in exprs {
            if let Expr::Identifier(ident) = expr
                && is_window_part(ident)
            {
                windowed = true;
                continue;
            }
            if let Expr::Value(_) = expr {
                let message = "positions are not supported in GROUP BY";
                return Err(SqlError::new(start_of(expr), message).hint("write the column"));
            }
            let meant = self.meant(expr);
            let name = self.group_name(expr, &meant, items)?;
            let path = format!("$.group_by[{}]", written.len());
            self.places.note(&path, start_of(expr));
            let value = self.expression(&meant, &format!("{path}.value"), Scope::Record)?;
            written.push(json!({ "name": name, "value": value }));
            self.groups.push((name, meant));
        }
        if !windowed {
            let at = if exprs.is_empty() { statement.place_of("SELECT") } else { statement.place_of("GROUP") };
            let message = "GROUP BY must name window_start: every row is about one window";
            return Err(SqlError::new(at, message).hint("GROUP BY …, window_start, window_end"));
        }
        Ok(Json::Array(written))
    }

    /// What an expression of GROUP BY means: itself, or what SELECT calls so.
    fn meant(&self, expr: &Expr) -> Expr {
        let Expr::Identifier(ident) = expr else { return expr.clone() };
        let alias = self.aliases.iter().find(|(alias, _)| same_name(alias, ident));
        alias.map_or_else(|| expr.clone(), |(_, expr)| expr.clone())
    }

    /// The name of a group's column: what SELECT calls it, else the field's own.
    fn group_name(&self, expr: &Expr, meant: &Expr, items: &[Item<'_>]) -> Result<String, SqlError> {
        let alias = items.iter().filter(|item| item.expr == meant).find_map(|item| item.alias);
        let own = match expr {
            Expr::Identifier(ident) => Some(ident.value.clone()),
            Expr::CompoundIdentifier(idents) => idents.last().map(|ident| ident.value.clone()),
            _ => None,
        };
        let name = alias.map(|alias| alias.value.clone()).or(own);
        name.ok_or_else(|| {
            SqlError::new(start_of(expr), "a group that is no field needs a name")
                .hint(format!("SELECT {expr} AS name …"))
        })
    }

    /// Aggregates that stand in SELECT by themselves take their names from there.
    fn name_aggregates(&mut self, items: &[Item<'_>]) -> Result<(), SqlError> {
        for item in items {
            let Expr::Function(function) = item.expr else { continue };
            let (call, at) = function_name(function);
            let function = plain_name(function);
            if functions::aggregate(&call).is_none() || self.aggregates.iter().any(|(_, known, _)| *known == function) {
                continue;
            }
            let name = item.alias.map_or(call, |alias| alias.value.clone());
            self.add_aggregate(name, &function, item.alias.map_or(at, |alias| alias.span.start))?;
        }
        Ok(())
    }

    fn add_aggregate(&mut self, name: String, function: &Function, at: Location) -> Result<(), SqlError> {
        let path = format!("$.aggregates[{}]", self.aggregates.len());
        self.places.note(&format!("{path}.name"), at);
        let json = self.aggregate(function, &name, &path)?;
        self.aggregates.push((name, function.clone(), json));
        Ok(())
    }

    /// An aggregate as a column of a row; one that SELECT does not name is computed all the same.
    pub(crate) fn aggregate_column(&mut self, function: &Function) -> Result<Json, SqlError> {
        let function = &plain_name(function);
        if !self.aggregates.iter().any(|(_, known, _)| known == function) {
            let (_, at) = function_name(function);
            let mut name = function.to_string();
            name.truncate(name.floor_char_boundary(64));
            while self.aggregates.iter().any(|(known, ..)| *known == name) {
                name.push('\'');
            }
            self.add_aggregate(name, function, at)?;
        }
        let found = self.aggregates.iter().find(|(_, known, _)| known == function);
        Ok(json!({ "column": found.map(|(name, ..)| name) }))
    }

    /// A group's column, if the expression is one of GROUP BY's.
    pub(crate) fn group_column(&self, expr: &Expr) -> Option<Json> {
        let (name, _) = self.groups.iter().find(|(_, known)| known == expr)?;
        Some(json!({ "column": name }))
    }

    /// A name after the aggregation: a part of the window, or what SELECT calls so.
    pub(crate) fn row_name(&mut self, ident: &Ident, path: &str) -> Result<Json, SqlError> {
        if is_window_part(ident) {
            return Ok(json!({ "column": ident.value.to_lowercase() }));
        }
        let alias = self.aliases.iter().find(|(alias, _)| same_name(alias, ident)).map(|(_, expr)| expr.clone());
        match alias {
            // A name that means itself, `SELECT lower(a) AS a`, is no alias inside of its own expression.
            Some(expr) if !self.open.contains(&ident.value) => {
                self.open.push(ident.value.clone());
                let written = self.expression(&expr, path, Scope::Row);
                self.open.pop();
                written
            }
            _ => Err(SqlError::new(ident.span.start, ungrouped(ident))),
        }
    }

    /// What a row shows. Start and end of the window are in every row anyway.
    fn columns(&mut self, items: &[Item<'_>]) -> Result<Json, SqlError> {
        let mut columns: Vec<Json> = Vec::new();
        for item in items {
            if let (Expr::Identifier(ident), None) = (item.expr, item.alias)
                && is_window_part(ident)
            {
                continue;
            }
            let path = format!("$.columns[{}]", columns.len());
            self.places.note(&path, item.alias.map_or_else(|| start_of(item.expr), |alias| alias.span.start));
            // An alias does not hide what it is made of.
            self.open.extend(item.alias.map(|alias| alias.value.clone()));
            let value = self.expression(item.expr, &format!("{path}.value"), Scope::Row)?;
            self.open.truncate(self.open.len() - usize::from(item.alias.is_some()));
            let own = value["column"].as_str().map(str::to_owned);
            let name = item.alias.map(|alias| alias.value.clone()).or_else(|| own.clone()).ok_or_else(|| {
                SqlError::new(start_of(item.expr), "a column that is computed needs a name").hint("… AS name")
            })?;
            columns.push(if own.as_ref() == Some(&name) {
                json!(name)
            } else {
                json!({ "name": name, "value": value })
            });
        }
        Ok(Json::Array(columns))
    }

    /// ORDER BY … LIMIT n PER WINDOW.
    fn top(&mut self, order: &sqlparser::ast::OrderBy, limit: &Expr, statement: &Statement) -> Result<Json, SqlError> {
        let at = statement.place_of("ORDER");
        self.places.note("$.top", at);
        let (OrderByKind::Expressions(keys), None) = (&order.kind, &order.interpolate) else {
            return Err(SqlError::new(at, "ORDER BY lists expressions"));
        };
        let mut by = Vec::new();
        for key in keys {
            if key.with_fill.is_some() || key.options.nulls_first == Some(true) {
                let message = "rows without a value come last";
                return Err(SqlError::new(start_of(&key.expr), message).hint("leave out NULLS FIRST and WITH FILL"));
            }
            let descending = match key.options.sort {
                None | Some(OrderBySort::Asc) => false,
                Some(OrderBySort::Desc) => true,
                Some(OrderBySort::Using(_)) => {
                    return Err(SqlError::new(start_of(&key.expr), "the order is ASC or DESC"));
                }
            };
            if let Expr::Value(_) = key.expr {
                return Err(SqlError::new(start_of(&key.expr), "positions are not supported in ORDER BY"));
            }
            let value = self.expression(&key.expr, &format!("$.top.by[{}].value", by.len()), Scope::Row)?;
            by.push(json!({ "value": value, "order": if descending { "descending" } else { "ascending" } }));
        }
        let limit = self.expression(limit, "$.top.limit", Scope::Row)?;
        Ok(json!({ "limit": limit, "by": by }))
    }
}

/// The call with its name in small letters, so that `count(*)` and `COUNT(*)` are one aggregate.
fn plain_name(function: &Function) -> Function {
    let mut function = function.clone();
    for part in &mut function.name.0 {
        if let ObjectNamePart::Identifier(ident) = part {
            ident.value = ident.value.to_lowercase();
        }
    }
    function
}

fn is_window_part(ident: &Ident) -> bool {
    ident.quote_style.is_none() && WINDOW_PARTS.iter().any(|part| ident.value.eq_ignore_ascii_case(part))
}

/// Names are compared as they are written: JSON does.
fn same_name(a: &Ident, b: &Ident) -> bool {
    a.value == b.value
}
