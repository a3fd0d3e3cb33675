package simpg

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkNew makes a cluster with the schema of the tests.
func BenchmarkNew(b *testing.B) {
	schema := strings.ReplaceAll(compareSchema, "%R%", "r")
	for b.Loop() {
		c, err := New(Options{Replicas: 2, Setup: schema})
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkStatement runs one statement without a connection.
func BenchmarkStatement(b *testing.B) {
	schema := strings.ReplaceAll(compareSchema, "%R%", "r")
	n := 0
	for name, sql := range map[string]func() string{
		"select":     func() string { return "select * from items where id = 2" },
		"set_config": func() string { return "select set_config('app.tenant', 'a', false)" },
		"insert":     func() string { n++; return fmt.Sprintf("insert into items values (%d, 'a', 'x', 1)", 1000+n) },
		"update":     func() string { return "update items set n = 1 where id = 2" },
		"new text":   func() string { n++; return fmt.Sprintf("select %d", n) },
	} {
		b.Run(name, func(b *testing.B) {
			c, err := New(Options{Replicas: 2, Setup: schema})
			if err != nil {
				b.Fatal(err)
			}
			se, err := c.Primary().local("postgres")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%100 == 0 && name == "insert" {
					se.handle('Q', []byte("delete from items where id > 1000\x00"))
				}
				se.io.out = se.io.out[:0]
				se.handle('Q', append([]byte(sql()), 0))
			}
			se.leave()
			c.Close()
		})
	}
}
