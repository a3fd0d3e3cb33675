package router

import "strings"

// PostgreSQL's parser, as a library, turns its tree into bytes by recursion
// without a limit: `SELECT 1+1+1…` of 400 KB overflows the C stack and ends the
// process. And its lexer reads a run of operator characters again for each
// token in it, so `/*/*/*…` takes time in the square of its length: minutes for
// 1 MB. tooDeep finds such texts before the parser sees them.

const (
	// shallowBytes is a size below which no text can be too deep: a level takes
	// at least two bytes, and 20000 levels are safe on a stack of 8 MB.
	shallowBytes = 8 << 10
	// maxDepth is how many levels of the tree are let through, estimated from above.
	maxDepth = 8000
	// maxRun is how many operator characters may stand side by side.
	maxRun = 1000
)

// tooDeep estimates the depth of the parse tree of text from above. Within one
// pair of parentheses every token may add a level, but what follows a comma, an
// AND and the like begins anew; the chains of UNION, JOIN and CASE do not. It
// also refuses long runs of operator characters outside literals.
func tooDeep(text string) bool {
	if len(text) <= shallowBytes {
		return false
	}
	d := depth{lexer: lexer{text: text}}
	for {
		t := d.next()
		switch t.kind {
		case tokenEnd:
			return false
		case tokenBad:
			return true // not valid SQL either
		case tokenComment:
			if l := longestRun(text[t.start:t.end]); l > maxRun && text[t.start] == '/' {
				return true
			}
			continue
		case tokenOther:
			if d.adjacent(t) > maxRun {
				return true
			}
		}
		if d.token(t); d.below+d.level.run+d.level.chain > maxDepth {
			return true
		}
	}
}

// depth is the state of an estimate.
type depth struct {
	lexer
	level depthLevel
	outer []depthLevel
	below int // levels of outer

	runStart, runEnd int // the latest run of operator characters
}

// operatorBytes are the characters operators are made of.
const operatorBytes = "~!@#^&|`?+-*/%<>="

// adjacent is the length of the run of operator characters that t ends.
func (d *depth) adjacent(t token) int {
	if strings.IndexByte(operatorBytes, d.text[t.start]) < 0 {
		return 0
	}
	if t.start != d.runEnd {
		d.runStart = t.start
	}
	d.runEnd = t.end
	return d.runEnd - d.runStart
}

func longestRun(s string) (longest int) {
	run := 0
	for i := range len(s) {
		if run++; strings.IndexByte(operatorBytes, s[i]) < 0 {
			run = 0
		}
		longest = max(longest, run)
	}
	return longest
}

// depthLevel is one pair of parentheses.
type depthLevel struct {
	run   int // tokens since a new subtree began
	chain int // UNION, JOIN, CASE
}

func (d *depth) token(t token) {
	if t.kind == tokenOther {
		d.punctuation(d.text[t.start])
		return
	}
	switch d.word(t) {
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
