package lake.guard;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.antlr.v4.runtime.CharStreams;
import org.antlr.v4.runtime.Token;
import org.apache.spark.sql.catalyst.parser.SqlBaseLexer;
import org.apache.spark.sql.catalyst.parser.UpperCaseCharStream;

/**
 * What Spark's parser itself has no stack or memory for: how deep a statement is nested, and its CUBEs and ROLLUPs, which it
 * writes out where they are in GROUPING SETS. It takes minutes and all of the memory to find that out; what it has learnt of
 * such a statement it keeps.
 */
final class Nesting {
  private static final int DEEPEST = 300;
  private static final int COMMENTS = 50;
  private static final Pattern COMMENT = Pattern.compile("/\\*|\\*/");
  private static final Pattern OPENS = Pattern.compile("[(\\[<~!+-]|CASE|NOT", Pattern.CASE_INSENSITIVE);
  private static final Pattern GROUPS = Pattern.compile("CUBE|ROLLUP", Pattern.CASE_INSENSITIVE);
  private static final Set<Integer> SIGNS =
      Set.of(SqlBaseLexer.NOT, SqlBaseLexer.BANG, SqlBaseLexer.MINUS, SqlBaseLexer.PLUS, SqlBaseLexer.TILDE);

  private Nesting() {}

  static void check(String statement) {
    if (statement == null) {
      return;
    }
    // To split a text into words takes the longer, the deeper its comments are.
    if (comments(statement) > COMMENTS) {
      throw Guard.error("[LIMIT] statement refused: it has comments in comments, more than " + COMMENTS + " deep");
    }
    // Most statements have not so many brackets in all.
    if (OPENS.matcher(statement).results().skip(DEEPEST).findAny().isPresent() && isDeeper(statement)) {
      throw Guard.error("[LIMIT] statement refused: it is nested more than " + DEEPEST
          + " deep: use IN in the place of many OR, and WITH in the place of subqueries");
    }
    if (GROUPS.matcher(statement).find()) {
      PlanSize.checkGroupingSets(groupingSets(statement));
    }
  }

  private static int comments(String statement) {
    int depth = 0;
    int deepest = 0;
    Matcher mark = COMMENT.matcher(statement);
    while (mark.find()) {
      depth = Math.max(0, depth + (mark.group().equals("/*") ? 1 : -1));
      deepest = Math.max(deepest, depth);
    }
    return deepest;
  }

  private static boolean isDeeper(String statement) {
    SqlBaseLexer lexer = lexer(statement);
    Deque<Integer> open = new ArrayDeque<>(); // what closes each
    int signs = 0;
    int before = Token.EOF;
    for (int token = next(lexer); token != Token.EOF; token = next(lexer)) {
      int closedBy = switch (token) {
        case SqlBaseLexer.LEFT_PAREN -> SqlBaseLexer.RIGHT_PAREN;
        case SqlBaseLexer.LEFT_BRACKET -> SqlBaseLexer.RIGHT_BRACKET;
        case SqlBaseLexer.CASE -> SqlBaseLexer.END;
        case SqlBaseLexer.LT -> before == SqlBaseLexer.ARRAY || before == SqlBaseLexer.MAP || before == SqlBaseLexer.STRUCT
            ? SqlBaseLexer.GT : Token.EOF;
        default -> Token.EOF;
      };
      if (closedBy != Token.EOF) {
        open.push(closedBy);
      } else {
        // END closes nothing but a CASE: a column may be called `end`. What is open inside a bracket ends with it: one
        // may be called `case`, too.
        boolean isBracket = token == SqlBaseLexer.RIGHT_PAREN || token == SqlBaseLexer.RIGHT_BRACKET;
        while (isBracket && !open.isEmpty() && (open.peek() == SqlBaseLexer.END || open.peek() == SqlBaseLexer.GT)) {
          open.pop();
        }
        if (!open.isEmpty() && open.peek() == token) {
          open.pop();
        }
      }
      // One after the other, each is an operand of the one before.
      signs = SIGNS.contains(token) ? signs + 1 : 0;
      if (open.size() > DEEPEST || signs > DEEPEST) {
        return true;
      }
      before = token;
    }
    return false;
  }

  /** Of all CUBE (…) and ROLLUP (…) by themselves. */
  private static long groupingSets(String statement) {
    SqlBaseLexer lexer = lexer(statement);
    long sets = 0;
    int kind = Token.EOF; // of the one that is open
    int depth = 0;
    int elements = 0;
    for (int token = next(lexer); token != Token.EOF; token = next(lexer)) {
      if (depth == 0 && (token == SqlBaseLexer.CUBE || token == SqlBaseLexer.ROLLUP)) {
        kind = token;
        elements = 1;
      } else if (kind != Token.EOF) {
        depth += token == SqlBaseLexer.LEFT_PAREN ? 1 : token == SqlBaseLexer.RIGHT_PAREN ? -1 : 0;
        elements += token == SqlBaseLexer.COMMA && depth == 1 ? 1 : 0;
        if (depth == 0) {
          sets += token != SqlBaseLexer.RIGHT_PAREN ? 0 : kind == SqlBaseLexer.CUBE ? 1L << Math.min(30, elements) : elements + 1;
          kind = Token.EOF;
        }
      }
    }
    return sets;
  }

  private static SqlBaseLexer lexer(String statement) {
    SqlBaseLexer lexer = new SqlBaseLexer(new UpperCaseCharStream(CharStreams.fromString(statement)));
    lexer.removeErrorListeners(); // the parser will say what is wrong
    return lexer;
  }

  /** The type of the next token of the default channel: comments and spaces are in another. */
  private static int next(SqlBaseLexer lexer) {
    Token token = lexer.nextToken();
    while (token.getChannel() != Token.DEFAULT_CHANNEL) {
      token = lexer.nextToken();
    }
    return token.getType();
  }
}
