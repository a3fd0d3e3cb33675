package proxy_test

import "testing"

// TestNamesInStrings: a statement that was prepared by SQL has its client's name wherever a
// string of several statements says it, and what a string prepares has it afterwards.
func TestNamesInStrings(t *testing.T) {
	t.Parallel()
	stage{setup: items}.tell(t,
		story{name: "executed", steps: "Q prepare pp as select 1\nQ select 5 ;; execute pp\nQ execute pp ;; execute pp"},
		story{name: "executed in a transaction", steps: "Q prepare pp as select count(*) from items\nQ begin ;; execute pp ;; commit\nQ begin\nQ select 1 ;; execute pp\nQ commit"},
		story{name: "with parameters", steps: "Q prepare pp(int) as select $1 + 1\nQ execute pp(1) ;; execute pp(2)"},
		story{name: "prepared and executed", steps: "Q prepare pp as select 1 ;; execute pp\nQ execute pp"},
		story{name: "prepared behind something", steps: "Q select 1 ;; prepare pp as select 2\nQ execute pp\nQ select 3 ;; execute pp"},
		story{name: "deallocated", steps: "Q prepare pp as select 1\nQ select 1 ;; deallocate pp\nQ execute pp"},
		story{name: "prepared anew", steps: "Q prepare pp as select 1\nQ deallocate pp ;; prepare pp as select 2\nQ execute pp"},
		story{name: "all deallocated", steps: "Q prepare pp as select 1\nQ select 1 ;; deallocate all\nQ execute pp"},
		story{name: "twice", steps: "Q prepare pp as select 1\nQ select 1 ;; prepare pp as select 2\nQ execute pp"},
		story{name: "unknown", steps: "Q select 1 ;; execute nobody\nQ select 1 ;; deallocate nobody"},
		story{name: "failed behind it", steps: "Q select 1 ;; prepare pp as select 2 ;; select 1/0\nQ execute pp"},
		story{name: "quoted", steps: "Q prepare \"P p\" as select 1\nQ select 1 ;; execute \"P p\""},
		story{name: "by the protocol", steps: "P pp \"select 1\"\nS\nQ select 1 ;; execute pp\nQ select 2 ;; deallocate pp"},
		story{name: "from code", steps: "Q prepare pp as select 1\nQ do $$ begin execute 'execute pp'; end $$\nQ execute pp"},
		story{name: "from code, twice", steps: "Q prepare pp as select 1\nQ do $$ begin execute 'execute pp'; end $$\nQ do $$ begin execute 'execute pp'; execute 'deallocate pp'; end $$\nQ execute pp\nQ prepare pp as select 2\nQ execute pp"},
		story{name: "given and prepared again", steps: "Q prepare pp as select 1\nQ select 1 ;; execute pp\nQ prepare pp as select 2\nQ prepare qq as select 3\nQ execute qq ;; execute pp\nQ deallocate pp\nQ execute pp\nQ discard all\nQ execute qq"},
		story{name: "in a transaction that failed", mode: "outside", steps: "Q prepare pp as select 1\nQ begin\nQ select 1/0\nQ select 1 ;; execute pp\nQ rollback\nQ select 1 ;; execute pp"},
		story{name: "given, then closed", mode: "once", steps: "P x select 1\nS\nQ execute x ;; select 7\nC S x\nS\nQ execute x ;; select 9\nP x select 5\nS\nQ execute x ;; select 9"},
		story{name: "given, then deallocated", mode: "once", steps: "P x select 1\nS\nQ execute x ;; select 7\nQ deallocate x\nQ prepare x as select 3\nQ execute x\nC S x\nS\nQ execute x"},
		story{name: "deallocated in a string", mode: "once", steps: "P x select 1\nS\nQ deallocate x ;; select 7\nB \"\" x\nE \"\"\nS\nP x select 2\nS\nQ execute x ;; select 1"},
		story{name: "given, refused, given", mode: "once", steps: "Q prepare x as select 1\nQ execute x ;; select 1/0\nQ execute x ;; select 2\nQ prepare y as select 3\nQ execute y ;; execute x"},
		story{name: "prepared by code", steps: "Q do $$ begin execute 'prepare pp as select 1'; end $$\nQ execute pp"},
	)
}
