package pgbouncer

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// document is a configuration file in the making: keys in the order in which they are first set.
type document struct{ root yaml.Node }

func newDocument() *document {
	return &document{yaml.Node{Kind: yaml.MappingNode}}
}

// set gives the key at path a value, a string, number, Boolean or list of strings, and a comment
// that may be empty.
func (d *document) set(path []string, value any, comment string) error {
	key, node := at(&d.root, path)
	if err := node.Encode(plain(value)); err != nil {
		return fmt.Errorf("%s: %w", strings.Join(path, "."), err)
	}
	if node.Kind == yaml.SequenceNode {
		node.Style = yaml.FlowStyle
		key.HeadComment = comment
		return nil
	}
	node.LineComment = comment
	return nil
}

// has reports whether the key at path was set.
func (d *document) has(path ...string) bool {
	node := &d.root
next:
	for _, name := range path {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				node = node.Content[i+1]
				continue next
			}
		}
		return false
	}
	return true
}

// touch makes the mapping at path, which may stay empty.
func (d *document) touch(path ...string) {
	if _, node := at(&d.root, path); node.Kind == 0 {
		node.Kind = yaml.MappingNode
	}
}

// at is the node at path, made if need be, with that of its key.
func at(node *yaml.Node, path []string) (key, value *yaml.Node) {
next:
	for _, name := range path {
		if node.Kind == 0 {
			node.Kind = yaml.MappingNode
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == name {
				key, node = node.Content[i], node.Content[i+1]
				continue next
			}
		}
		key, value = new(yaml.Node), new(yaml.Node)
		key.SetString(name)
		node.Content = append(node.Content, key, value)
		node = value
	}
	return key, node
}

// plain keeps a text from being taken for a reference to the environment.
func plain(value any) any {
	switch v := value.(type) {
	case string:
		if strings.Contains(v, "${") || strings.Contains(v, "$$") {
			return strings.ReplaceAll(v, "$", "$$")
		}
	case []string:
		out := make([]string, len(v))
		for i, s := range v {
			out[i], _ = plain(s).(string)
		}
		return out
	}
	return value
}

// text is the whole file.
func (d *document) text(head, foot []string) ([]byte, error) {
	var b strings.Builder
	for _, line := range head {
		b.WriteString("# " + line + "\n")
	}
	b.WriteString("\n")
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(&d.root); err != nil {
		return nil, err
	}
	for i, line := range foot {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString("# " + line + "\n")
	}
	return []byte(b.String()), nil
}
