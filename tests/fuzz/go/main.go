// Reads a selector and labels from each line, and says whether the API machinery finds that the one matches the other.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	said := bufio.NewWriter(os.Stdout)
	defer said.Flush()
	for lines.Scan() {
		var one struct {
			Selector metav1.LabelSelector
			Labels   labels.Set
		}
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			panic(err)
		}
		// As the API server checks the selectors of a webhook's entry.
		wrong := validation.ValidateLabelSelector(&one.Selector, validation.LabelSelectorValidationOptions{}, field.NewPath("selector"))
		selector, err := metav1.LabelSelectorAsSelector(&one.Selector)
		if err != nil || len(wrong) > 0 {
			fmt.Fprintln(said, "invalid")
			continue
		}
		fmt.Fprintln(said, selector.Matches(one.Labels))
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
}
