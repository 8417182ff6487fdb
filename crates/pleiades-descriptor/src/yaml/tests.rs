use super::*;

fn root(text: &str) -> Node {
    parse(text.as_bytes()).expect("parses").expect("a document")
}

fn fault(text: &str) -> (usize, usize, String) {
    let syntax = parse(text.as_bytes()).expect_err("does not parse");
    (syntax.at.line, syntax.at.column, syntax.message)
}

#[test]
fn columns_count_characters() {
    let node = root("ä: {\"日本\": x, b: 1}\n");
    let map = &node.entry("ä").expect("key").value;
    let entry = map.entry("b").expect("key");
    assert_eq!(
        (entry.at, entry.value.at),
        (Pos { line: 1, column: 14 }, Pos { line: 1, column: 17 })
    );
}

#[test]
fn byte_order_mark_and_carriage_returns_do_not_move_columns() {
    let node = root("\u{feff}a: 1\r\nb: 2\r\n");
    assert_eq!(node.entry("a").expect("key").at, Pos::START);
    assert_eq!(node.entry("b").expect("key").value.at, Pos { line: 2, column: 4 });
}

#[test]
fn only_true_and_false_are_booleans() {
    let node = root("[true, false, yes, on, True, ~, 0x1F, 0o17, 010, 1.5, 1e3, .inf, -3, 1_000, 1.2.3]");
    let found: Vec<&str> = node.items().iter().map(Node::describe).collect();
    let expected = [
        "a boolean",
        "a boolean",
        "text",
        "text",
        "text",
        "nothing",
        "an integer",
        "an integer",
        "an integer",
        "a number",
        "a number",
        "a number",
        "an integer",
        "text",
        "text",
    ];
    assert_eq!(found, expected);
}

#[test]
fn tabs_second_documents_and_control_characters_are_named() {
    assert_eq!(
        fault("a:\n\tb: 1\n"),
        (2, 1, "a tab cannot indent YAML".to_owned())
    );
    assert_eq!(fault("a: 1\n---\nb: 2\n").0, 2);
    assert_eq!(
        fault("a: \u{1}\n"),
        (
            1,
            4,
            "the control character U+0001 is not allowed in YAML".to_owned()
        )
    );
}

#[test]
fn aliases_stand_where_they_are_written_and_cannot_explode() {
    let node = root("a: &x {k: 1}\nb: *x\n");
    assert_eq!(
        node.at_path(&["b", "k"]).expect("value").at,
        Pos { line: 2, column: 4 }
    );
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..9 {
        let inner = vec![format!("*a{}", level - 1); 10].join(",");
        bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    assert_eq!(fault(&bomb).2, "aliases make the file too large");
    assert!(fault("a: &a [*a]\n").2.contains("inside"));
}

#[test]
fn nesting_is_bounded() {
    assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    assert!(parse(format!("{}1", "- ".repeat(5_000)).as_bytes()).is_err());
}
