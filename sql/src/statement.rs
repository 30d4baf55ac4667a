//! From the text to its one SELECT, with every clause that is not supported refused.

use sqlparser::{
    ast::{CreateTableOptions, CreateView, Expr, Query, Select, SelectFlavor, SetExpr, SqlOption, Statement as Parsed},
    dialect::GenericDialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Whitespace},
};

use crate::{TEXT_BYTES_MAX, TOKENS_MAX, place::SqlError};

/// What a text says.
pub(crate) struct Statement {
    /// The view's name and where it stands.
    pub(crate) name: Option<(String, Location)>,
    /// The options after WITH.
    pub(crate) options: Vec<SqlOption>,
    /// The query.
    pub(crate) select: Box<Select>,
    /// ORDER BY and LIMIT.
    pub(crate) order: Option<sqlparser::ast::OrderBy>,
    pub(crate) limit: Option<Expr>,
    /// The words of the text, for places that the parser does not keep.
    words: Vec<TokenWithSpan>,
}

impl Statement {
    /// Where a keyword stands first.
    pub(crate) fn place_of(&self, keyword: &str) -> Location {
        place_of(&self.words, keyword)
    }
}

fn place_of(words: &[TokenWithSpan], keyword: &str) -> Location {
    let found =
        words.iter().find(|word| matches!(&word.token, Token::Word(w) if w.value.eq_ignore_ascii_case(keyword)));
    found.map_or(Location::new(1, 1), |word| word.span.start)
}

/// Reads a text.
pub(crate) fn read(text: &str) -> Result<Statement, SqlError> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the text is longer than {TEXT_BYTES_MAX} bytes");
        return Err(SqlError::new(Location::new(1, 1), message));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| SqlError::new(error.location, error.message))?;
    let tokens: Vec<TokenWithSpan> = tokens.into_iter().map(plain_name).collect();
    let words: Vec<TokenWithSpan> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).cloned().collect();
    if let Some(word) = words.get(TOKENS_MAX) {
        return Err(SqlError::new(word.span.start, format!("more than {TOKENS_MAX} words")));
    }
    let end = end_of(text);
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let parsed = parser.parse_statement().map_err(|error| syntax_error(&error, end))?;
    let per_window = read_per_window(&mut parser);
    read_end(&mut parser)?;
    let (name, options, query) = unwrap_view(parsed, &words)?;
    let statement = read_query(query, words, name, options)?;
    check_limit(&statement, per_window)?;
    Ok(statement)
}

/// `user` is the name of a field. To the parser it would be a function that tells who is connected.
fn plain_name(mut word: TokenWithSpan) -> TokenWithSpan {
    if let Token::Word(word) = &mut word.token
        && matches!(word.keyword, Keyword::USER | Keyword::CURRENT_USER | Keyword::SESSION_USER)
    {
        word.keyword = Keyword::NoKeyword;
    }
    word
}

/// The place after the last character.
fn end_of(text: &str) -> Location {
    let line = text.lines().count().max(1);
    let column = text.lines().last().map_or(1, |line| line.chars().count() + 1);
    Location::new(line as u64, column as u64)
}

/// The parser writes the place into its message.
fn syntax_error(error: &ParserError, end: Location) -> SqlError {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
        ParserError::RecursionLimitExceeded => return SqlError::new(Location::new(1, 1), "nested too deep"),
    };
    let Some((message, place)) = text.rsplit_once(" at Line: ") else { return SqlError::new(end, text.as_str()) };
    let numbers = place.split_once(", Column: ");
    let at = numbers.and_then(|(line, column)| Some(Location::new(line.parse().ok()?, column.trim().parse().ok()?)));
    let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
    SqlError::new(at.filter(|at| at.line > 0).unwrap_or(end), message)
}

/// `PER WINDOW` after the LIMIT; the parser leaves it to us.
fn read_per_window(parser: &mut Parser<'_>) -> bool {
    let words = [parser.peek_nth_token(0), parser.peek_nth_token(1)];
    let is = |token: &TokenWithSpan, text: &str| matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text));
    let found = is(&words[0], "PER") && is(&words[1], "WINDOW");
    if found {
        parser.next_token();
        parser.next_token();
    }
    found
}

fn read_end(parser: &mut Parser<'_>) -> Result<(), SqlError> {
    let mut rest = parser.next_token();
    if rest.token == Token::SemiColon {
        rest = parser.next_token();
    }
    match &rest.token {
        Token::EOF | Token::Whitespace(Whitespace::Newline) => Ok(()),
        Token::Word(word) if word.value.eq_ignore_ascii_case("EMIT") => {
            Err(SqlError::new(rest.span.start, "EMIT is not supported").hint("write WITH (emit = 'updates')"))
        }
        token => Err(SqlError::new(rest.span.start, format!("{token} is not expected here: one statement at a time"))),
    }
}

type View = (Option<(String, Location)>, Vec<SqlOption>, Query);

/// The query of a view, or a query by itself.
fn unwrap_view(parsed: Parsed, words: &[TokenWithSpan]) -> Result<View, SqlError> {
    let at = |keyword: &str| place_of(words, keyword);
    let view = match parsed {
        Parsed::Query(query) => return Ok((None, Vec::new(), *query)),
        Parsed::CreateView(view) => view,
        _ => {
            let start = words.first().map_or(Location::new(1, 1), |word| word.span.start);
            return Err(SqlError::new(
                start,
                "only a SELECT, or CREATE MATERIALIZED VIEW … AS SELECT, declares a stream",
            ));
        }
    };
    let CreateView {
        or_alter,
        or_replace,
        materialized,
        secure,
        name,
        name_before_not_exists: _,
        columns,
        query,
        options,
        cluster_by,
        comment,
        with_no_schema_binding,
        if_not_exists,
        temporary,
        copy_grants,
        to,
        params,
    } = view;
    if !materialized {
        return Err(SqlError::new(at("VIEW"), "only a MATERIALIZED VIEW declares a stream"));
    }
    let surplus = [
        (or_alter, "ALTER"),
        (or_replace, "REPLACE"),
        (secure, "SECURE"),
        (!columns.is_empty(), "VIEW"),
        (!cluster_by.is_empty(), "CLUSTER"),
        (comment.is_some(), "COMMENT"),
        (with_no_schema_binding, "BINDING"),
        (if_not_exists, "EXISTS"),
        (temporary, "TEMPORARY"),
        (copy_grants, "COPY"),
        (to.is_some(), "TO"),
        (params.is_some(), "CREATE"),
    ];
    refuse_surplus(&surplus, words, "in CREATE MATERIALIZED VIEW")?;
    let parts: Vec<_> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let start = parts.first().map_or(Location::new(1, 1), |ident| ident.span.start);
    let name = parts.iter().map(|ident| ident.value.as_str()).collect::<Vec<_>>().join(".");
    let options = match options {
        CreateTableOptions::None => Vec::new(),
        CreateTableOptions::With(options) => options,
        _ => return Err(SqlError::new(at("OPTIONS"), "options stand after WITH").hint("WITH (name = 'value')")),
    };
    Ok((Some((name, start)), options, *query))
}

/// Refuses the first clause that is there, by its keyword.
fn refuse_surplus(clauses: &[(bool, &str)], words: &[TokenWithSpan], context: &str) -> Result<(), SqlError> {
    match clauses.iter().find(|(there, _)| *there) {
        Some((_, keyword)) => {
            Err(SqlError::new(place_of(words, keyword), format!("{keyword} is not supported {context}")))
        }
        None => Ok(()),
    }
}

fn read_query(
    query: Query,
    words: Vec<TokenWithSpan>,
    name: Option<(String, Location)>,
    options: Vec<SqlOption>,
) -> Result<Statement, SqlError> {
    let Query { with, body, order_by, limit_clause, fetch, locks, for_clause, settings, format_clause, pipe_operators } =
        query;
    let at = |keyword: &str| place_of(&words, keyword);
    if with.is_some() {
        let message = "common table expressions are not supported";
        return Err(SqlError::new(at("WITH"), message).hint("a stream reads one topic; chain streams by their outputs"));
    }
    let surplus = [
        (fetch.is_some(), "FETCH"),
        (!locks.is_empty() || for_clause.is_some(), "FOR"),
        (settings.is_some(), "SETTINGS"),
        (format_clause.is_some(), "FORMAT"),
        (!pipe_operators.is_empty(), "SELECT"),
    ];
    refuse_surplus(&surplus, &words, "here")?;
    let select = match *body {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation { op, .. } => {
            let message = format!("{op} is not supported");
            return Err(SqlError::new(at(&op.to_string()), message).hint("declare two streams"));
        }
        _ => return Err(SqlError::new(at("VALUES"), "a stream is declared by a SELECT")),
    };
    let limit = match limit_clause {
        None => None,
        Some(sqlparser::ast::LimitClause::LimitOffset { limit, offset: None, limit_by }) if limit_by.is_empty() => {
            limit
        }
        Some(_) => return Err(SqlError::new(at("LIMIT"), "write LIMIT n PER WINDOW, without OFFSET or BY")),
    };
    check_select(&select, &words)?;
    Ok(Statement { name, options, select, order: order_by, limit, words })
}

fn check_select(select: &Select, words: &[TokenWithSpan]) -> Result<(), SqlError> {
    let Select {
        select_token: _,
        optimizer_hints,
        distinct,
        select_modifiers,
        top,
        top_before_distinct: _,
        projection: _,
        exclude,
        into,
        from: _,
        lateral_views,
        prewhere,
        selection: _,
        connect_by,
        group_by: _,
        cluster_by,
        distribute_by,
        sort_by,
        having: _,
        named_window,
        qualify,
        window_before_qualify: _,
        value_table_mode,
        flavor,
    } = select;
    let surplus = [
        (distinct.is_some(), "DISTINCT"),
        (top.is_some(), "TOP"),
        (exclude.is_some(), "EXCLUDE"),
        (into.is_some(), "INTO"),
        (!lateral_views.is_empty(), "LATERAL"),
        (prewhere.is_some(), "PREWHERE"),
        (!connect_by.is_empty(), "CONNECT"),
        (!cluster_by.is_empty(), "CLUSTER"),
        (!distribute_by.is_empty(), "DISTRIBUTE"),
        (!sort_by.is_empty(), "SORT"),
        (!named_window.is_empty(), "WINDOW"),
        (qualify.is_some(), "QUALIFY"),
        (!optimizer_hints.is_empty() || select_modifiers.is_some() || value_table_mode.is_some(), "SELECT"),
        (*flavor != SelectFlavor::Standard, "FROM"),
    ];
    refuse_surplus(&surplus, words, "here")
}

fn check_limit(statement: &Statement, per_window: bool) -> Result<(), SqlError> {
    match (&statement.order, &statement.limit, per_window) {
        (None, None, false) | (Some(_), Some(_), true) => Ok(()),
        (None, None, true) => {
            Err(SqlError::new(statement.place_of("PER"), "PER WINDOW needs a LIMIT")
                .hint("ORDER BY … LIMIT n PER WINDOW"))
        }
        (_, Some(_), false) => {
            let message = "a LIMIT over all windows is not supported: a stream has no end";
            Err(SqlError::new(statement.place_of("LIMIT"), message).hint("LIMIT n PER WINDOW"))
        }
        (None, Some(_), true) => {
            let message = "LIMIT needs an ORDER BY: which rows of a window are the first?";
            Err(SqlError::new(statement.place_of("LIMIT"), message).hint("ORDER BY … LIMIT n PER WINDOW"))
        }
        (Some(_), None, _) => {
            let message = "ORDER BY needs a LIMIT: rows come out in the order of their windows";
            Err(SqlError::new(statement.place_of("ORDER"), message).hint("ORDER BY … LIMIT n PER WINDOW"))
        }
    }
}
