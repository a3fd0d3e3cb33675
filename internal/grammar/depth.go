package grammar

import "strings"

// PostgreSQL's parser, as a library, turns its tree into bytes by recursion
// without a limit: `SELECT 1+1+1…` of 400 KB overflows the C stack and ends the
// process. And its lexer reads a run of operator characters again for each
// token in it, so `/*/*/*…` takes time in the square of its length: minutes for
// 1 MB. TooDeep finds such texts before the parser sees them.

const (
	// levelBytes is the stack that a level takes at most while a text is parsed,
	// normalized or fingerprinted. Measured with libpg_query 16 on amd64: 1,080 bytes for
	// `(select (select …`, 730 for `(a and (a or …` and for NOT, 520 for subscripts.
	levelBytes = 1500
	// reserved is the stack that all else takes.
	reserved = 128 << 10
	// unlimitedStack is what threads get where the limit of stacks is none (glibc,
	// ARCH_STACK_DEFAULT_SIZE).
	unlimitedStack = 2 << 20
	// mostLevels are not exceeded on any stack: protobuf reads 10,000.
	mostLevels = 8000
	// maxRun is how many operator characters may stand side by side.
	maxRun = 1000
)

// maxDepth is how many levels of a tree are let through, estimated from above. A level
// takes at least one byte of the text, so a shorter text is never too deep.
var maxDepth = levels(stack)

// stack is what threadStack found when the process began.
var stack = threadStack()

// levels is how many levels of a tree fit on a stack.
func levels(stack int) int {
	return min(max((stack-reserved)/levelBytes, 0), mostLevels)
}

// TooDeep estimates the depth of the parse tree of text from above. Within one
// pair of parentheses every token may add a level, but what follows a comma, an
// AND and the like begins anew; the chains of UNION, JOIN and CASE do not. It
// also refuses long runs of operator characters outside literals.
func TooDeep(text string) bool {
	if len(text) <= maxDepth {
		return false
	}
	d := depth{Lexer: Lexer{Text: text}}
	for {
		t := d.Next()
		switch t.Kind {
		case End:
			return false
		case Bad:
			return true // not valid SQL either
		case Comment:
			if d.longRun(t) {
				return true
			}
			continue
		case Other:
			if d.longRun(t) {
				return true
			}
		case Word, Quoted, Literal:
		}
		if d.token(t); d.below+d.level.run+d.level.chain > maxDepth {
			return true
		}
	}
}

// depth is the state of an estimate.
type depth struct {
	Lexer
	level depthLevel
	outer []depthLevel
	below int // levels of outer

	run    int // the operator characters that stand side by side up to runEnd
	runEnd int
}

// operatorBytes are the characters operators are made of.
const operatorBytes = "~!@#^&|`?+-*/%<>="

// longRun reports whether a run of operator characters that ends in t, or stands in it, is
// too long. The parser's scanner reads such a run for each operator and each comment of the
// form /* */ that begins in it, in those comments too; not behind --.
func (d *depth) longRun(t Token) bool {
	if t.Kind == Comment && d.Text[t.Start] == '-' {
		return false
	}
	if t.Start != d.runEnd {
		d.run = 0
	}
	d.runEnd = t.End
	for i := t.Start; i < t.End; i++ {
		if d.run++; strings.IndexByte(operatorBytes, d.Text[i]) < 0 {
			d.run = 0
		}
		if d.run > maxRun {
			return true
		}
	}
	return false
}

// depthLevel is one pair of parentheses.
type depthLevel struct {
	run   int // tokens since a new subtree began
	chain int // UNION, JOIN, CASE
}

func (d *depth) token(t Token) {
	if t.Kind == Other {
		d.punctuation(d.Text[t.Start])
		return
	}
	switch d.Word(t) {
	case "and", "or", "when", "then", "else", "select", "where", "on", "values":
		d.level.run = 0
	case "union", "except", "intersect", "join", "case":
		d.level.chain++
		d.level.run = 0
	default:
		d.level.run++
	}
}

func (d *depth) punctuation(c byte) {
	switch c {
	case '(', '[':
		d.level.run++
		d.outer = append(d.outer, d.level)
		d.below += d.level.run + d.level.chain
		d.level = depthLevel{}
	case ')', ']':
		if n := len(d.outer); n > 0 {
			d.level = d.outer[n-1]
			d.outer = d.outer[:n-1]
			d.below -= d.level.run + d.level.chain
		}
	case ';':
		d.level, d.outer, d.below = depthLevel{}, d.outer[:0], 0
	case ',':
		d.level.run = 0
	default:
		d.level.run++
	}
}
