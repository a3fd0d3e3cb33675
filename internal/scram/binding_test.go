package scram

import (
	"crypto/x509"
	"testing"
)

func TestEndPointData(t *testing.T) {
	for algorithm, size := range map[x509.SignatureAlgorithm]int{
		x509.SHA1WithRSA: 32, x509.MD5WithRSA: 32, x509.SHA256WithRSA: 32, x509.SHA256WithRSAPSS: 32, x509.ECDSAWithSHA256: 32,
		x509.SHA384WithRSA: 48, x509.ECDSAWithSHA384: 48, x509.SHA512WithRSA: 64, x509.ECDSAWithSHA512: 64, x509.PureEd25519: 0,
	} {
		if got := len(EndPointData(&x509.Certificate{SignatureAlgorithm: algorithm, Raw: []byte("certificate")})); got != size {
			t.Errorf("%v: %d bytes, want %d", algorithm, got, size)
		}
	}
}
