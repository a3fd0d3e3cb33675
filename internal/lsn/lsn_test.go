package lsn

import "testing"

func TestParse(t *testing.T) {
	for text, want := range map[string]LSN{
		"0/0": 0, "16/B374D848": 0x16B374D848, "16/b374d848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1,
		"00000001/00000002": 1<<32 | 2,
	} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/", "1", "1/", "/1", "1/g", "+1/1", "1/-1", " 1/1", "1/1 ", "1/1/1", "000000001/1", "1/123456789", "0x1/1", "1_0/1"} {
		if got, err := Parse(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("16/B374D848")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := Parse(s)
		if err != nil {
			return
		}
		if again, err := Parse(l.String()); err != nil || again != l {
			t.Errorf("%q is %v, which is read as %v (%v)", s, l, again, err)
		}
	})
}
