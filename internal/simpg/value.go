package simpg

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// OIDs of the types the model knows.
const (
	typBool      uint32 = 16
	typBytea     uint32 = 17
	typChar      uint32 = 18 // "char"
	typName      uint32 = 19
	typInt8      uint32 = 20
	typInt2      uint32 = 21
	typInt4      uint32 = 23
	typText      uint32 = 25
	typOID       uint32 = 26
	typFloat8    uint32 = 701
	typUnknown   uint32 = 705
	typTextArray uint32 = 1009
	typInt4Array uint32 = 1007
	typVarchar   uint32 = 1043
	typDate      uint32 = 1082
	typLocal     uint32 = 1114 // timestamp without time zone
	typTimestamp uint32 = 1184 // with time zone
	typNumeric   uint32 = 1700
	typRecord    uint32 = 2249
	typVoid      uint32 = 2278
	typTrigger   uint32 = 2279
	typRegclass  uint32 = 2205
	typLSN       uint32 = 3220
)

// typeInfo is what the model knows of a type.
type typeInfo struct {
	name     string // of pg_type
	words    string // as format_type says it
	size     int16
	category byte
}

var types = map[uint32]typeInfo{
	typBool:      {"bool", "boolean", 1, 'B'},
	typBytea:     {"bytea", "bytea", -1, 'U'},
	typChar:      {"char", `"char"`, 1, 'Z'},
	typName:      {"name", "name", 64, 'S'},
	typInt8:      {"int8", "bigint", 8, 'N'},
	typInt2:      {"int2", "smallint", 2, 'N'},
	typInt4:      {"int4", "integer", 4, 'N'},
	typText:      {"text", "text", -1, 'S'},
	typOID:       {"oid", "oid", 4, 'N'},
	typFloat8:    {"float8", "double precision", 8, 'N'},
	typUnknown:   {"unknown", "unknown", -2, 'X'},
	typTextArray: {"_text", "text[]", -1, 'A'},
	typInt4Array: {"_int4", "integer[]", -1, 'A'},
	typVarchar:   {"varchar", "character varying", -1, 'S'},
	typDate:      {"date", "date", 4, 'D'},
	typLocal:     {"timestamp", "timestamp without time zone", 8, 'D'},
	typInterval:  {"interval", "interval", 16, 'T'},
	typTimestamp: {"timestamptz", "timestamp with time zone", 8, 'D'},
	typNumeric:   {"numeric", "numeric", -1, 'N'},
	typRecord:    {"record", "record", -1, 'P'},
	typVoid:      {"void", "void", 4, 'P'},
	typTrigger:   {"trigger", "trigger", 4, 'P'},
	typRegclass:  {"regclass", "regclass", 4, 'N'},
	typLSN:       {"pg_lsn", "pg_lsn", 8, 'U'},
}

// infoOf is what the model knows of a type; those of users are enumerations of any text.
func infoOf(oid uint32) typeInfo {
	if oid >= firstOID {
		return typeInfo{name: "own", words: "own", size: 4, category: 'E'}
	}
	return types[oid]
}

// typeNamed finds a type by its name in pg_type; 0 is none.
func typeNamed(name string) uint32 {
	switch name {
	case "bpchar":
		return typVarchar
	case "_oid":
		return typInt4Array
	}
	for oid, t := range types {
		if t.name == name {
			return oid
		}
	}
	return 0
}

// datum is a value: nil is NULL; else bool, int64, float64, string or []datum by the type.
type datum any

// output is a value as text.
func output(d datum) string {
	switch v := d.(type) {
	case bool:
		if v {
			return "t"
		}
		return "f"
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case string:
		return v
	case time.Time:
		return timeText(v)
	case time.Duration:
		return v.String()
	case []datum:
		parts := make([]string, len(v))
		for i, e := range v {
			if parts[i] = "NULL"; e != nil {
				parts[i] = arrayElement(output(e))
			}
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return ""
}

func arrayElement(s string) string {
	if s != "" && !strings.ContainsAny(s, `{}," \`) && !strings.EqualFold(s, "null") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// bounds of the integer types.
var bounds = map[uint32][2]int64{
	typInt2: {math.MinInt16, math.MaxInt16}, typInt4: {math.MinInt32, math.MaxInt32}, typOID: {0, math.MaxUint32},
	typInt8: {math.MinInt64, math.MaxInt64},
}

// input reads a value of a type.
func input(s string, typ uint32) datum {
	invalid := func() {
		raise("22P02", `invalid input syntax for type %s: "%s"`, infoOf(typ).words, s)
	}
	switch typ {
	case typBool:
		switch t := strings.ToLower(strings.TrimSpace(s)); {
		case t != "" && (strings.HasPrefix("true", t) || strings.HasPrefix("yes", t)), t == "on", t == "1":
			return true
		case t != "" && (strings.HasPrefix("false", t) || strings.HasPrefix("no", t)), t == "of", t == "off", t == "0":
			return false
		}
		invalid()
	case typInt2, typInt4, typInt8, typOID:
		n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
		if e, ok := err.(*strconv.NumError); ok && e.Err == strconv.ErrRange || err == nil && (n < bounds[typ][0] || n > bounds[typ][1]) {
			raise("22003", `value "%s" is out of range for type %s`, s, infoOf(typ).words)
		}
		if err != nil {
			invalid()
		}
		return n
	case typRegclass: // of a system catalog; what it is shown as is not modelled
		oid := relationOID(strings.TrimPrefix(s, "pg_catalog."))
		if oid == 0 {
			raise("0A000", "simpg: regclass %q is not modelled", s)
		}
		return int64(oid)
	case typFloat8, typNumeric:
		n, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
		if err != nil {
			invalid()
		}
		if typ == typNumeric {
			return strings.TrimSpace(s)
		}
		return n
	case typTextArray, typInt4Array:
		return inputArray(s, typ)
	case typTimestamp:
		return inputTime(s)
	case typInterval:
		return inputInterval(s)
	case typName:
		return s[:min(len(s), 63)]
	}
	return s
}

// inputArray reads an array of one dimension.
func inputArray(s string, typ uint32) datum {
	of := typText
	if typ == typInt4Array {
		of = typInt4
	}
	t := strings.TrimSpace(s)
	if !strings.HasPrefix(t, "{") || !strings.HasSuffix(t, "}") {
		panic(&Error{Severity: "ERROR", Code: "22P02", Message: fmt.Sprintf(`malformed array literal: "%s"`, s),
			Detail: `Array value must start with "{" or dimension information.`})
	}
	list := []datum{}
	if t = t[1 : len(t)-1]; t == "" {
		return list
	}
	for _, e := range splitArray(t) {
		list = append(list, input(e, of))
	}
	return list
}

func splitArray(s string) (parts []string) {
	var cur strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			cur.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			parts = append(parts, cur.String())
			cur.Reset()
		default:
			cur.WriteByte(c)
		}
	}
	return append(parts, cur.String())
}

// cast converts a value from one type to another.
func cast(d datum, from, to uint32) datum {
	if d == nil || from == to || to == typUnknown {
		return d
	}
	switch v := d.(type) {
	case string:
		if infoOf(from).category == 'S' || from == typUnknown || from == typNumeric {
			if from == typNumeric && (to == typInt4 || to == typInt8 || to == typInt2) {
				f, _ := strconv.ParseFloat(v, 64)
				return inRange(int64(math.Round(f)), to)
			}
			return input(v, to)
		}
	case bool:
		switch {
		case to == typInt4 && v:
			return int64(1)
		case to == typInt4:
			return int64(0)
		case infoOf(to).category == 'S' && v:
			return "true"
		case infoOf(to).category == 'S':
			return "false"
		}
	case int64:
		switch to {
		case typBool:
			return v != 0
		case typFloat8:
			return float64(v)
		case typInt2, typInt4, typInt8, typOID:
			return inRange(v, to)
		}
	case float64:
		switch to {
		case typInt2, typInt4, typInt8:
			return inRange(int64(math.RoundToEven(v)), to)
		}
	}
	return input(output(d), to)
}

func inRange(n int64, typ uint32) int64 {
	if b := bounds[typ]; n < b[0] || n > b[1] {
		raise("22003", "%s out of range", infoOf(typ).words)
	}
	return n
}

// encode is a value in the format of a column: 0 is text, 1 binary.
func encode(d datum, typ uint32, format int16) []byte {
	if d == nil {
		return nil
	}
	if format == 1 {
		switch v := d.(type) {
		case bool:
			if v {
				return []byte{1}
			}
			return []byte{0}
		case int64:
			switch infoOf(typ).size {
			case 2:
				return binary.BigEndian.AppendUint16(nil, uint16(v))
			case 4:
				return binary.BigEndian.AppendUint32(nil, uint32(v))
			}
			return binary.BigEndian.AppendUint64(nil, uint64(v))
		case float64:
			return binary.BigEndian.AppendUint64(nil, math.Float64bits(v))
		}
	}
	return append([]byte{}, output(d)...)
}

// decode reads a parameter.
func decode(b []byte, typ uint32, format int16) datum {
	switch {
	case b == nil:
		return nil
	case format == 0:
		return input(string(b), typ)
	}
	wrong := func(size int) {
		if len(b) != size {
			raise("22P03", "incorrect binary data format in bind parameter 1")
		}
	}
	switch typ {
	case typBool:
		wrong(1)
		return b[0] != 0
	case typInt2:
		wrong(2)
		return int64(int16(binary.BigEndian.Uint16(b)))
	case typInt4:
		wrong(4)
		return int64(int32(binary.BigEndian.Uint32(b)))
	case typOID:
		wrong(4)
		return int64(binary.BigEndian.Uint32(b))
	case typInt8:
		wrong(8)
		return int64(binary.BigEndian.Uint64(b))
	case typFloat8:
		wrong(8)
		return math.Float64frombits(binary.BigEndian.Uint64(b))
	}
	return string(b)
}

// compare orders two values of one type.
func compare(a, b datum) int {
	switch x := a.(type) {
	case bool:
		y := b.(bool)
		switch {
		case x == y:
			return 0
		case y:
			return -1
		}
		return 1
	case int64:
		switch y := b.(type) {
		case int64:
			return cmp.Compare(x, y)
		case float64:
			return compare(float64(x), y)
		}
	case float64:
		y, ok := b.(float64)
		if n, is := b.(int64); is {
			y, ok = float64(n), true
		}
		if ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	case time.Time:
		return x.Compare(b.(time.Time))
	case []datum:
		y := b.([]datum)
		for i := range min(len(x), len(y)) {
			if c := compare(x[i], y[i]); c != 0 {
				return c
			}
		}
		return len(x) - len(y)
	}
	return strings.Compare(output(a), output(b))
}
