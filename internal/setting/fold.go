package setting

// Fold is a name as PostgreSQL compares names of settings and folds identifiers and key
// words: letters of ASCII in lower case, all others as they are. Go's strings.ToLower makes
// one name of two that a server tells apart. A name that is folded costs nothing.
func Fold(name string) string {
	for i := range len(name) {
		if isUpper(name[i]) {
			return foldFrom(name, i)
		}
	}
	return name
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }

func foldFrom(name string, from int) string {
	b := []byte(name)
	for i := from; i < len(b); i++ {
		if isUpper(b[i]) {
			b[i] |= 0x20
		}
	}
	return string(b)
}
