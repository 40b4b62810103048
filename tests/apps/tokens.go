// Makes a token with golang-jwt: a line in, {"alg", "key" (PKCS #8 in PEM, or the secret), "claims"}, the token out.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/golang-jwt/jwt"
)

type asked struct {
	Alg    string
	Key    string
	Claims jwt.MapClaims
}

func (asked asked) signer(method jwt.SigningMethod) (interface{}, error) {
	key := []byte(asked.Key)
	switch method.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return jwt.ParseRSAPrivateKeyFromPEM(key)
	case *jwt.SigningMethodECDSA:
		return jwt.ParseECPrivateKeyFromPEM(key)
	case *jwt.SigningMethodEd25519:
		return jwt.ParseEdPrivateKeyFromPEM(key)
	default:
		return key, nil
	}
}

func token() (string, error) {
	var asked asked
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return "", err
	}
	method := jwt.GetSigningMethod(asked.Alg)
	if method == nil {
		return "", fmt.Errorf("golang-jwt does not know %s", asked.Alg)
	}
	key, err := asked.signer(method)
	if err != nil {
		return "", err
	}
	return jwt.NewWithClaims(method, asked.Claims).SignedString(key)
}

func main() {
	token, err := token()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(token)
}
