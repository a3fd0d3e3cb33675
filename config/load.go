package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"gopkg.in/yaml.v3"
)

// Load reads the file at path with the process's environment. Its error is the
// file system's, or wraps Faults.
func Load(path string) (Config, error) { return load(path, (*decoder).whole) }

// LoadWithoutSecrets is Load for who logs in nowhere: a secret that cannot be had is no fault.
func LoadWithoutSecrets(path string) (Config, error) {
	return load(path, func(d *decoder, data []byte) (Config, error) {
		d.withoutSecrets = true
		return d.whole(data)
	})
}

// LoadOnly reads some keys at the top of the file at path: what is wrong with others is
// nobody's concern. The rest is that of Default.
func LoadOnly(path string, keys ...string) (Config, error) {
	return load(path, func(d *decoder, data []byte) (Config, error) {
		root, err := document(data)
		if err != nil {
			return Config{}, syntaxFaults(err, data)
		}
		c := Default()
		if root != nil {
			d.into(only(root, keys), "", &c)
		}
		return c, d.faults.err()
	})
}

// load has decode read the file at path.
func load(path string, decode func(d *decoder, data []byte) (Config, error)) (Config, error) {
	data, err := readConfiguration(path)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := decode(newDecoder(path, os.LookupEnv), data)
	if err != nil {
		return Config{}, fmt.Errorf("%s:\n%w", path, err)
	}
	return c, nil
}

// only is a mapping without all other keys.
func only(n *yaml.Node, keys []string) *yaml.Node {
	less := *n
	less.Content = nil
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if slices.Contains(keys, n.Content[i].Value) {
			less.Content = append(less.Content, n.Content[i:i+2]...)
		}
	}
	return &less
}

// readConfiguration reads a file, or a pipe such as a shell's <(…) makes. It waits for
// nobody to open the other end of a pipe, and reads nothing that has no end.
func readConfiguration(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a directory; name the file in it", path)
	}
	return readAtMost(f, path)
}

// Parse reads data as the content of the file called name, whose directory is
// where relative paths start. env looks a variable up; nil knows none. The error
// is Faults: everything wrong with the text and with the files it names.
func Parse(name string, data []byte, env func(string) (string, bool)) (Config, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	return newDecoder(name, env).whole(data)
}

// whole reads the content of a file.
func (d *decoder) whole(data []byte) (Config, error) {
	root, err := document(data)
	if err != nil {
		return Config{}, syntaxFaults(err, data)
	}
	c := Default()
	d.config(root, &c)
	c = c.Complete()
	d.adopt(c.Validate())
	if err := d.faults.err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// document returns the top node of the only document in data, nil for an empty file.
func document(data []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var first, second yaml.Node
	if err := dec.Decode(&first); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	if err := dec.Decode(&second); err == nil {
		return nil, Faults{{Line: second.Line, Text: "a second document; one file holds one configuration"}}
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(first.Content) == 0 {
		return nil, nil
	}
	return first.Content[0], nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?`)

// syntaxFaults turns what the YAML reader says of data into Faults.
func syntaxFaults(err error, data []byte) Faults {
	var fs Faults
	if errors.As(err, &fs) {
		return fs
	}
	text := err.Error()
	m := yamlLine.FindStringSubmatch(text)
	line, _ := strconv.Atoi(m[1])
	text = strings.TrimPrefix(text, m[0])
	if line == 0 {
		line = lineOf(text, data)
	}
	if strings.Contains(text, "cannot start any token") && tabbed(data, line) {
		text += "; indent by spaces, not by tabs"
	}
	return Faults{{Line: line, Text: "not YAML: " + text}}
}

var unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)

// lineOf looks for the line of a fault that the YAML reader tells without one; 0 is
// not found.
func lineOf(text string, data []byte) int {
	at := -1
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		at = bytes.Index(data, []byte("*"+m[1]))
	} else if strings.Contains(text, "control characters") {
		at = bytes.IndexFunc(data, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) })
	}
	if at < 0 {
		return 0
	}
	return 1 + bytes.Count(data[:at], []byte("\n"))
}

// tabbed reports whether a line begins with a tab, behind spaces or not.
func tabbed(data []byte, line int) bool {
	lines := bytes.Split(data, []byte("\n"))
	return line > 0 && line <= len(lines) && bytes.HasPrefix(bytes.TrimLeft(lines[line-1], " "), []byte("\t"))
}

// config decodes the whole file and holds the one rule that needs to know what
// was written rather than what it came to.
func (d *decoder) config(root *yaml.Node, c *Config) {
	if root == nil {
		return
	}
	d.into(root, "", c)
	if line, ok := d.lines["routing.sole_writer"]; ok && c.Routing.SoleWriter && len(c.Peers) > 0 {
		d.fault(line, "routing.sole_writer", "peers say that other instances commit, too; leave it out, or make it false")
	}
	if _, ok := d.lines["clusters"]; !ok {
		return
	}
	for _, short := range []string{"servers", "dns", "patroni", "kubernetes", "flavour", "server_tls", "service"} {
		if line, ok := d.lines[short]; ok {
			d.fault(line, short, "is short for a single cluster; with clusters given, write it inside one of them")
		}
	}
	// The short forms are not a cluster of their own beside the others.
	c.dropShort()
}

// adopt adds faults found in the values, each with the line of its key. Those
// about a key that could not be read are left out: they only follow from that.
func (d *decoder) adopt(found Faults) {
	read := len(d.faults)
next:
	for _, f := range found {
		f.Path, f.Text = d.written(f.Path), d.written(f.Text)
		for _, known := range d.faults[:read] {
			if known.Path == "" || related(known.Path, f.Path) {
				continue next
			}
		}
		f.Line = d.line(f.Path)
		d.faults = append(d.faults, f)
	}
}

// line is where path, or the nearest thing around it, stands in the file.
func (d *decoder) line(path string) int {
	for path != "" {
		if line, ok := d.lines[path]; ok {
			return line
		}
		path = parent(path)
	}
	return 0
}

// written undoes, in a path or a text, the move of the short forms into the
// cluster "default".
func (d *decoder) written(s string) string {
	if _, ok := d.lines["clusters"]; ok {
		return s
	}
	return unmoved(s)
}

// unmoved is a path within the cluster of the short forms, or a text, as a file has it.
func unmoved(s string) string {
	const moved = "clusters." + shortCluster + "."
	return strings.ReplaceAll(strings.ReplaceAll(s, moved+"tls", "server_tls"), moved, "")
}
