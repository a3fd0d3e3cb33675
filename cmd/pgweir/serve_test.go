package main

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/pgweir/pgweir/config"
	"github.com/pgweir/pgweir/internal/serve"
)

// childVariable makes the test binary the program, with childServe for a proxy:
// "end" ends when told to, "long" when told twice, "hang" never does. realProxy has a real one.
const (
	childVariable = "PGWEIR_TEST_CHILD"
	realProxy     = "real"
)

func childServe(ctx, now context.Context, _ config.Config, log *zap.Logger, _ serve.Options) error {
	log.Info("serving")
	<-ctx.Done()
	switch os.Getenv(childVariable) {
	case "hang":
		select {}
	case "long":
		<-now.Done()
	}
	return nil
}

// child starts the program and returns its log, line by line.
func child(t *testing.T, mode string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", "testdata/smallest.yaml")
	cmd.Env = append(os.Environ(), childVariable+"="+mode)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(pipe)
}

func waitLine(t *testing.T, in *bufio.Scanner, part string) {
	t.Helper()
	for in.Scan() {
		if strings.Contains(in.Text(), part) {
			return
		}
	}
	t.Fatalf("no line with %q: %v", part, in.Err())
}

func TestSignalStopsGracefully(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		cmd, log := child(t, "end")
		waitLine(t, log, "serving")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		for log.Scan() { // to the end: Wait closes the pipe
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", sig, err)
		}
	}
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	cmd, log := child(t, "long")
	waitLine(t, log, "serving")
	for _, answer := range []string{"stopping; a second signal", "stopping at once"} {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		waitLine(t, log, answer)
	}
	for log.Scan() { // to the end: Wait closes the pipe
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestFurtherSignalsKill(t *testing.T) {
	cmd, log := child(t, "hang")
	waitLine(t, log, "serving")
	for _, answer := range []string{"stopping; a second signal", "stopping at once"} {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		waitLine(t, log, answer)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for { // the default action of the signal is back a moment after the line was written
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("ended with %v, want the signal", err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestServeError(t *testing.T) {
	defer func(f func(ctx, now context.Context, cfg config.Config, log *zap.Logger, o serve.Options) error) {
		serveFunc = f
	}(serveFunc)
	serveFunc = func(_, _ context.Context, _ config.Config, _ *zap.Logger, _ serve.Options) error {
		return errors.New("port is taken")
	}
	out, code := pgweir("", "serve", "--config", "testdata/smallest.yaml")
	if code != exitFailure || out != "pgweir: serve: port is taken\n" {
		t.Errorf("exit %d, %q", code, out)
	}
}

// TestReaderOfTheLogGoes: the service outlives it. Other commands end by SIGPIPE, as in any pipeline.
func TestReaderOfTheLogGoes(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	cmd := exec.Command(os.Args[0], "serve", "--config", "testdata/smallest.yaml")
	cmd.Env, cmd.Stderr, cmd.Stdout = append(os.Environ(), childVariable+"=end"), w, w
	must(t, cmd.Start())
	waitLine(t, bufio.NewScanner(r), "serving")
	must(t, r.Close())
	must(t, cmd.Process.Signal(syscall.SIGTERM)) // which it has something to say about
	if err := cmd.Wait(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
	cmd = exec.Command(os.Args[0], "explain", "--help")
	cmd.Env, cmd.Stdout = append(os.Environ(), childVariable+"=end"), w
	var exit *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGPIPE {
		t.Errorf("explain ended with %v", err)
	}
	must(t, w.Close())
}
