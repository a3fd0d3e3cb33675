package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// client makes an HTTP client that trusts the authorities of a file, or the system's.
// It goes by no proxy: those asked are as near as the servers are.
func client(caFile, certFile, keyFile string) (*http.Client, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate in it", caFile)
		}
	}
	if certFile != "" {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return &http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{}).DialContext, TLSClientConfig: conf, DisableKeepAlives: true,
	}}, nil
}

// get reads the JSON at a URL into to. header is one more line of the request's.
func get(ctx context.Context, c *http.Client, url string, header http.Header, to any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return &statusError{url, resp.StatusCode, body}
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}

// statusError is an answer that is none.
type statusError struct {
	url    string
	status int
	body   []byte
}

func (e *statusError) Error() string {
	const most = 200
	body := e.body[:min(len(e.body), most)]
	return fmt.Sprintf("%s: %d %s: %s", e.url, e.status, http.StatusText(e.status), body)
}
