# Checks that each ```cpp block of a page stands, to the letter, in a sample:
# what is shown is compiled. Usage: perl readme_check.pl PAGE SAMPLE…
use strict;
use warnings;

my ($readme, @samples) = @ARGV;
local $/;
open my $in, '<', $readme or die "cannot read $readme: $!\n";
my $text = <$in>;
my $code = '';
for my $sample (@samples) {
  open my $file, '<', $sample or die "cannot read $sample: $!\n";
  $code .= <$file>;
}
my ($blocks, $missing) = (0, 0);
while ($text =~ /^```cpp\n(.*?)^```$/gms) {
  ++$blocks;
  next if index($code, $1) >= 0;
  ++$missing;
  print "not in samples/:\n$1\n";
}
print "$blocks blocks, $missing of them in no sample\n";
exit($blocks == 0 || $missing ? 1 : 0);
