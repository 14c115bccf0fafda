import assert from 'node:assert/strict';
import { test } from 'node:test';
import { read, reason } from './decision.js';

const settings = read('{"namespaces": ["ci"]}');

test('named namespaces are left alone', () => {
  assert.equal(reason(settings, 'ci'), 'images are not cached for namespace ci');
});

test('other policies are asked about the rest', () => {
  assert.equal(reason(settings, 'shop'), undefined);
  assert.equal(reason(read(''), 'ci'), undefined);
});

test('wrong settings are refused in words', () => {
  assert.throws(() => read('{"namespace": ["ci"]}'), { message: '"namespace" is not a setting; there is "namespaces"' });
  assert.throws(() => read('{"namespaces": [""]}'), { message: '"namespaces" is not a list of names' });
});
