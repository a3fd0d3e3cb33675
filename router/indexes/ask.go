package indexes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgweir/pgweir/insight"
	"github.com/pgweir/pgweir/router/catalog"
)

// patience bounds the answer of one server, in which many indexes may have to be looked at.
const patience = 30 * time.Second

// Target is a server that can be asked.
type Target struct {
	Name string
	// Ask connects to the database on the server, and has it asked.
	Ask func(ctx context.Context, asks func(context.Context, catalog.Query) error) error
}

// Ask asks all servers of a database at once, and judges what they say; see Judge.
func Ask(ctx context.Context, database string, targets []Target, plans []insight.PlanRow) (*Report, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	found, faults := make([]*Server, len(targets)), make([]error, len(targets))
	var wg sync.WaitGroup
	for i, to := range targets {
		wg.Go(func() {
			faults[i] = to.Ask(ctx, func(ctx context.Context, q catalog.Query) (err error) {
				found[i], err = Read(ctx, q, to.Name)
				return err
			})
		})
	}
	wg.Wait()
	var answered []*Server
	var silent []string
	for i, fault := range faults {
		if fault != nil {
			silent = append(silent, targets[i].Name+": "+fault.Error())
		} else {
			answered = append(answered, found[i])
		}
	}
	if len(answered) == 0 {
		return nil, fmt.Errorf("%s: no server answers: %w", database, errors.Join(faults...))
	}
	return Judge(database, answered, silent, plans), nil
}
